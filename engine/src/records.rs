//! The directory of the records: `CONTAINER/CGROUP.json` for each bound container.
//!
//! The cgroup is in the name because a container's id is its engine's, and two
//! engines, or two namespaces of one, may use the same. Each container has a directory,
//! so that neither the next one's start nor its end costs a look at all of them.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    clock,
    lock::private_dir,
    record::{Record, RecordError},
};

/// The ending of a record that is being written.
const UNFINISHED: &str = "new";

/// How long the record of a container that is gone is kept, at least.
pub const KEPT: Duration = Duration::from_mins(10);

/// Those that ended within one such span are kept together, and forgotten together.
const TOGETHER: Duration = Duration::from_mins(1);

/// The directory of the records.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
    /// Those that were put away: `MINUTE/CONTAINER/CGROUP.json`, the minute of
    /// `CLOCK_BOOTTIME` in which that was.
    gone: PathBuf,
}

impl Records {
    /// Records below our run directory.
    #[must_use]
    pub fn below(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.join("containers"),
            gone: run_dir.join("gone"),
        }
    }

    /// Writes one, whole or not at all.
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.path(&record.owner.container, record.cgroup)?;
        let of_container = self.of_id(&record.owner.container)?;
        for dir in [&self.dir, &of_container] {
            private_dir(dir).map_err(failed("mkdir", dir))?;
        }
        let text = serde_json::to_vec_pretty(record).map_err(|source| RecordError::Json {
            path: path.clone(),
            source,
        })?;
        let new = path.with_extension(UNFINISHED);
        private_file(&new)
            .and_then(|mut file| file.write_all(&text))
            .map_err(failed("write", &new))?;
        fs::rename(&new, &path).map_err(failed("rename", &path))
    }

    /// The record of a container's cgroup, if there is one.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be understood.
    pub fn read(&self, container: &str, cgroup: u64) -> Result<Option<Record>, RecordError> {
        read(&self.path(container, cgroup)?)
    }

    /// The records of all containers with this id, of whatever engine.
    ///
    /// # Errors
    ///
    /// The first that can't be understood.
    pub fn of_container(&self, container: &str) -> Result<Vec<Record>, RecordError> {
        let dir = self.of_id(container)?;
        cgroups(&dir)
            .filter_map(|cgroup| self.read(container, cgroup).transpose())
            .collect()
    }

    /// The record of what is bound by this cgroup, if there is one. Looks through all.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be understood.
    pub fn of_cgroup(&self, cgroup: u64) -> Result<Option<Record>, RecordError> {
        for container in containers(&self.dir) {
            if let Some(record) = self.read(&container, cgroup)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Puts one away; nothing where there is none. Reports of what the container did
    /// last still find it, for [`KEPT`].
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn remove(&self, container: &str, cgroup: u64) -> Result<(), RecordError> {
        let path = self.path(container, cgroup)?;
        let minute = clock::now() / nanoseconds(TOGETHER);
        forget_old(&self.gone, minute);
        let now = Self {
            dir: self.gone.join(minute.to_string()),
            gone: PathBuf::new(),
        };
        let to = now.path(container, cgroup)?;
        let of_container = now.of_id(container)?;
        for dir in [&self.gone, &now.dir, &of_container] {
            private_dir(dir).map_err(failed("mkdir", dir))?;
        }
        match fs::rename(&path, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("rename", &path)(error))
            }
            _ => {
                // Another engine's container of the same id may still be there.
                drop(fs::remove_dir(self.of_id(container)?));
                Ok(())
            }
        }
    }

    /// The record of a cgroup that was bound not long ago, if there is one.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be understood.
    pub fn of_gone_cgroup(&self, cgroup: u64) -> Result<Option<Record>, RecordError> {
        let mut minutes = minutes(&self.gone);
        minutes.sort_unstable();
        for minute in minutes.iter().rev() {
            let gone = Self {
                dir: self.gone.join(minute.to_string()),
                gone: PathBuf::new(),
            };
            if let Some(record) = gone.of_cgroup(cgroup)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// All records. One that can't be understood is logged and left out: it
    /// protects nothing, the maps do.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        let mut all = Vec::new();
        for container in containers(&self.dir) {
            let dir = self.dir.join(&container);
            all.extend(cgroups(&dir).filter_map(|cgroup| self.understood(&container, cgroup)));
        }
        all
    }

    /// Ids of the containers that have one.
    pub fn ids(&self) -> impl Iterator<Item = String> + use<> {
        containers(&self.dir)
    }

    /// Cgroups of the container that have a record.
    pub(crate) fn cgroups_of(&self, container: &str) -> impl Iterator<Item = u64> + use<> {
        let dir = self.of_id(container).ok();
        dir.into_iter().flat_map(|dir| cgroups(&dir))
    }

    fn understood(&self, container: &str, cgroup: u64) -> Option<Record> {
        let read = self.read(container, cgroup);
        read.unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        })
    }

    /// Takes over the records of versions that had no directories,
    /// `CONTAINER.CGROUP.json`, and forgets those that such a version put away. One that
    /// can't be moved is logged, and missed by whoever needs it, which fails closed.
    pub(crate) fn adopt(&self) {
        for flat in files(&self.dir) {
            if let Err(error) = self.adopt_one(&flat) {
                log::warn!("{}: {error}", flat.display());
            }
        }
        for flat in files(&self.gone) {
            if let Err(error) = fs::remove_file(&flat) {
                log::warn!("{}: {error}", flat.display());
            }
        }
    }

    fn adopt_one(&self, flat: &Path) -> Result<(), RecordError> {
        let name = flat.file_name().and_then(|name| name.to_str());
        let parts = name.and_then(|name| name.strip_suffix(".json")?.rsplit_once('.'));
        let parts = parts.and_then(|(container, cgroup)| Some((container, cgroup.parse().ok()?)));
        let Some((container, cgroup)) = parts else {
            // None of ours, or one that was never finished.
            return Ok(());
        };
        let dir = self.of_id(container)?;
        private_dir(&dir).map_err(failed("mkdir", &dir))?;
        fs::rename(flat, self.path(container, cgroup)?).map_err(failed("rename", flat))
    }

    /// Containers and cgroups that have one; what writers that were killed have left is
    /// removed. Nobody else writes meanwhile.
    pub(crate) fn tidied(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for container in containers(&self.dir) {
            let dir = self.dir.join(&container);
            let mut is_used = false;
            for name in names(&dir) {
                if let Some(cgroup) = cgroup_of(&name) {
                    is_used = true;
                    all.push((container.clone(), cgroup));
                } else if Path::new(&name)
                    .extension()
                    .is_some_and(|end| end == UNFINISHED)
                {
                    let path = dir.join(name);
                    if let Err(error) = fs::remove_file(&path) {
                        log::warn!("{}: {error}", path.display());
                    }
                }
            }
            if !is_used {
                // What else is in it is none of ours, and keeps it.
                drop(fs::remove_dir(&dir));
            }
        }
        all
    }

    /// Removes the directory and what is in it.
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn remove_all(&self) -> Result<(), RecordError> {
        for dir in [&self.dir, &self.gone] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("rm -r", dir)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The directory of a container's records.
    fn of_id(&self, container: &str) -> Result<PathBuf, RecordError> {
        if !is_id(container) {
            return Err(RecordError::Id(container.to_owned()));
        }
        Ok(self.dir.join(container))
    }

    fn path(&self, container: &str, cgroup: u64) -> Result<PathBuf, RecordError> {
        Ok(self.of_id(container)?.join(format!("{cgroup}.json")))
    }
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { call, path, source }
}

/// What is in a directory; nothing where it is not there.
fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    entries(dir).filter_map(|entry| entry.file_name().into_string().ok())
}

/// Files of a directory, no links.
fn files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let files = entries(dir).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.map(|entry| entry.path())
}

/// Containers that have a record: whatever else lies there is none of ours.
fn containers(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let dirs = entries(dir).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = dirs.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_id(name))
}

/// Whether an engine's id makes a plain name.
fn is_id(container: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
    let fits = (1..=128).contains(&container.len());
    fits && !container.starts_with('.') && container.chars().all(plain)
}

/// Cgroups of a container that have one.
fn cgroups(dir: &Path) -> impl Iterator<Item = u64> + use<> {
    names(dir).filter_map(|name| cgroup_of(&name))
}

/// The cgroup whose record is called so.
fn cgroup_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

/// Minutes in which records were put away.
fn minutes(gone: &Path) -> Vec<u64> {
    names(gone).filter_map(|name| name.parse().ok()).collect()
}

fn forget_old(gone: &Path, minute: u64) {
    let kept = nanoseconds(KEPT) / nanoseconds(TOGETHER);
    let old = minutes(gone);
    for old in old.into_iter().filter(|old| old + kept < minute) {
        let dir = gone.join(old.to_string());
        // Tried again the next time.
        if let Err(error) = fs::remove_dir_all(&dir) {
            log::warn!("{}: {error}", dir.display());
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Opens a file anew that root alone may read. Closed: a link in its place is an
/// error, and nothing is written through it.
fn private_file(path: &Path) -> io::Result<fs::File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

fn read(path: &Path) -> Result<Option<Record>, RecordError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| RecordError::Json {
                path: path.to_owned(),
                source,
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
