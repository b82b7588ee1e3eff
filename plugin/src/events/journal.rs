//! The journal: a file of lines, of which the older half is put aside when it is
//! full. One process writes to it, any number reads it.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use execblock::lock::private_dir;
use rustix::fs::inotify;

use super::Report;

/// Bytes that both halves may take together unless the node's configuration says
/// otherwise.
pub(crate) const BYTES_DEFAULT: u64 = 8 << 20;

/// The half that is written to.
const CURRENT: &str = "journal.jsonl";
/// The half before it.
const BEFORE: &str = "journal.old.jsonl";
/// Lost events that stand in it, by cgroup, so that the next writer does not tell
/// them again.
const TOLD: &str = "lost.json";

/// A file of the journal that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{call} {path}: {source}")]
pub(crate) struct JournalError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError { call, path, source }
}

/// The directory of the journal, below our run directory, which is made where it
/// is not.
pub(crate) fn dir(run_dir: &Path) -> Result<PathBuf, JournalError> {
    let dir = run_dir.join("events");
    for dir in [run_dir, &dir] {
        private_dir(dir).map_err(failed("mkdir", dir))?;
    }
    Ok(dir)
}

/// The journal, for the one who writes to it.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    file: File,
    size: u64,
    /// Bytes of one half.
    half: u64,
    /// The last line may have been written in part.
    torn: bool,
    /// Held as long as this lives, or until the process ends.
    _lock: File,
}

impl Journal {
    /// Waits until nobody else writes to it.
    pub(crate) fn wait(run_dir: &Path, bytes: u64) -> Result<Self, JournalError> {
        let (dir, path, lock) = lock(run_dir)?;
        lock.lock().map_err(failed("flock", &path))?;
        Self::open(dir, lock, bytes)
    }

    /// `None` where somebody else writes to it.
    pub(crate) fn unless_held(run_dir: &Path, bytes: u64) -> Result<Option<Self>, JournalError> {
        let (dir, path, lock) = lock(run_dir)?;
        match lock.try_lock() {
            Ok(()) => Self::open(dir, lock, bytes).map(Some),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed("flock", &path)(error)),
        }
    }

    fn open(dir: PathBuf, lock: File, bytes: u64) -> Result<Self, JournalError> {
        let path = dir.join(CURRENT);
        let mut file = new(&path, |options| options.append(true).create(true))?;
        let mut size = file.metadata().map_err(failed("stat", &path))?.size();
        if !ends_line(&mut file).map_err(failed("read", &path))? {
            // Whoever wrote it was killed in the middle of a line.
            file.write_all(b"\n").map_err(failed("write", &path))?;
            size += 1;
        }
        Ok(Self {
            dir,
            file,
            size,
            half: bytes / 2,
            torn: false,
            _lock: lock,
        })
    }

    /// Adds a line. After a failure the next one is tried as if nothing had been.
    pub(crate) fn write(&mut self, report: &Report) -> Result<(), JournalError> {
        let path = self.dir.join(CURRENT);
        let mut line = Vec::new();
        if self.torn {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, report)
            .map_err(|error| failed("write", &path)(error.into()))?;
        line.push(b'\n');
        let len = line.len() as u64;
        if self.size != 0 && self.size + len > self.half {
            self.turn(&path)?;
        }
        match self.file.write_all(&line) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.torn = true;
                // The newest are worth more; and whoever binds a container needs room
                // on the same file system.
                let before = self.dir.join(BEFORE);
                fs::remove_file(&before).map_err(failed("unlink", &before))?;
                line.insert(0, b'\n');
                self.file.write_all(&line).map_err(failed("write", &path))?;
            }
            written => {
                self.torn |= written.is_err();
                written.map_err(failed("write", &path))?;
            }
        }
        self.torn = false;
        self.size += len;
        Ok(())
    }

    /// Puts the current half aside and begins a new one.
    fn turn(&mut self, path: &Path) -> Result<(), JournalError> {
        match fs::rename(path, self.dir.join(BEFORE)) {
            // It was put aside, and then a new one could not be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(failed("rename", path))?,
        }
        self.file = new(path, |options| options.append(true).create_new(true))?;
        self.size = 0;
        self.torn = false;
        Ok(())
    }

    /// Lost events that were told, by cgroup. What can't be read is told again.
    pub(crate) fn told(&self) -> HashMap<u64, u64> {
        let text = fs::read(self.dir.join(TOLD)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Keeps them for the next writer.
    pub(crate) fn set_told(&self, told: &HashMap<u64, u64>) -> Result<(), JournalError> {
        let path = self.dir.join(TOLD);
        let text =
            serde_json::to_vec(told).map_err(|error| failed("write", &path)(error.into()))?;
        // Whole or not at all: what is cut off would be told again.
        let unfinished = path.with_extension("new");
        let mut file = new(&unfinished, |options| {
            options.write(true).create(true).truncate(true)
        })?;
        file.write_all(&text)
            .map_err(failed("write", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(failed("rename", &path))
    }
}

fn lock(run_dir: &Path) -> Result<(PathBuf, PathBuf, File), JournalError> {
    let dir = dir(run_dir)?;
    let path = dir.join("lock");
    let file = new(&path, |options| options.write(true).create(true))?;
    Ok((dir, path, file))
}

fn new(
    path: &Path,
    how: impl FnOnce(&mut OpenOptions) -> &mut OpenOptions,
) -> Result<File, JournalError> {
    let mut options = OpenOptions::new();
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    how(options.read(true).mode(0o600).custom_flags(flags))
        .open(path)
        .map_err(failed("open", path))
}

fn ends_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.size() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The journal, for one who reads it.
#[derive(Debug)]
pub(crate) struct Tail {
    dir: PathBuf,
    /// The half before the current one, until it was read.
    before: Option<File>,
    /// The half that is written to; `None` as long as there is none.
    current: Option<File>,
    /// What was read behind the last whole line.
    rest: Vec<u8>,
    watch: OwnedFd,
}

impl Tail {
    /// From the oldest line on.
    pub(crate) fn from_start(run_dir: &Path) -> Result<Self, JournalError> {
        let dir = dir(run_dir)?;
        // Watched before it is read, so that nothing falls between.
        let watch = watch(&dir).map_err(|error| failed("inotify", &dir)(error.into()))?;
        loop {
            let current = open(&dir.join(CURRENT))?;
            let before = open(&dir.join(BEFORE))?;
            // Unless it was put aside in between.
            if is_at(current.as_ref(), &dir.join(CURRENT))
                && is_at(before.as_ref(), &dir.join(BEFORE))
            {
                return Ok(Self {
                    dir,
                    before,
                    current,
                    rest: Vec::new(),
                    watch,
                });
            }
        }
    }

    /// From now on.
    pub(crate) fn from_now(run_dir: &Path) -> Result<Self, JournalError> {
        let mut tail = Self::from_start(run_dir)?;
        tail.before = None;
        if let Some(current) = &mut tail.current {
            let path = tail.dir.join(CURRENT);
            current
                .seek(SeekFrom::End(0))
                .map_err(failed("seek", &path))?;
        }
        Ok(tail)
    }

    /// All whole lines that are there and were not read yet.
    pub(crate) fn lines(&mut self) -> Result<Vec<String>, JournalError> {
        let mut lines = Vec::new();
        if let Some(mut before) = self.before.take() {
            self.take(&mut before, &mut lines)?;
            // A line that never came to its end is no part of the next file's first.
            self.rest.clear();
        }
        loop {
            // Asked before it is read: what was put aside is written to no more.
            let path = self.dir.join(CURRENT);
            let was_current = is_at(self.current.as_ref(), &path);
            if let Some(mut current) = self.current.take() {
                self.take(&mut current, &mut lines)?;
                self.current = Some(current);
            }
            if was_current {
                return Ok(lines);
            }
            self.rest.clear();
            self.current = open(&path)?;
            if self.current.is_none() {
                return Ok(lines);
            }
        }
    }

    /// Readable when there may be more lines.
    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Takes note of what [`Self::watch`] told.
    pub(crate) fn heard(&self) {
        let mut events = [0; 4096];
        // Until there is nothing, or it is interrupted, and then it is asked again.
        while rustix::io::read(&self.watch, &mut events).is_ok_and(|read| read != 0) {}
    }

    fn take(&mut self, file: &mut File, lines: &mut Vec<String>) -> Result<(), JournalError> {
        file.read_to_end(&mut self.rest)
            .map_err(failed("read", &self.dir.join(CURRENT)))?;
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(());
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        let text = String::from_utf8_lossy(&whole);
        lines.extend(text.lines().map(str::to_owned));
        Ok(())
    }
}

fn watch(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let changes = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, dir, changes)?;
    Ok(watch)
}

fn open(path: &Path) -> Result<Option<File>, JournalError> {
    match new(path, |options| options) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether this file, or none, is what the path leads to.
fn is_at(file: Option<&File>, path: &Path) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|found| found.ino()).ok();
    file.and_then(|file| inode(file.metadata())) == inode(fs::metadata(path))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
