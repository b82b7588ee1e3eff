//! One writer at a time: binding reads and writes several maps, and the writers
//! are different processes.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Where everything of ours that is not a pin lies: the lock and the records.
pub const RUN_DIR: &str = "/run/execblock";

/// How long the lock is waited for. Most writers have it for a millisecond, the first
/// `load` for as long as it proves a mechanism; kubelet waits two minutes for a
/// container to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A file.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody does not give it back.
    #[error(
        "{path} was not to be had within {patience:?}: {holder}; see what that does, it may have to \
         be ended"
    )]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
        /// Who has it.
        holder: String,
    },
}

/// Held until it is dropped, or until the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of `dir`, which is made (mode 0700) where it is not.
    ///
    /// # Errors
    ///
    /// Where the directory or the file can't be made, or somebody keeps it: fails
    /// closed, nothing is bound without the lock.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        Self::acquire_named(dir, "lock")
    }

    /// Waits for another lock of `dir`.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub(crate) fn acquire_named(dir: &Path, name: &str) -> Result<Self, LockError> {
        Self::acquire_within(dir, name, PATIENCE)
    }

    fn acquire_within(dir: &Path, name: &str, patience: Duration) -> Result<Self, LockError> {
        let failed = |call, path: &Path| {
            let path = path.to_owned();
            move |error: rustix::io::Errno| LockError::Io {
                call,
                path,
                source: error.into(),
            }
        };
        private_dir(dir).map_err(|source| LockError::Io {
            call: "mkdir",
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join(name);
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(failed("open", &path))?;
        let mut file = File::from(file);
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => file = wait(file, patience, &path)?,
            other => other.map_err(failed("flock", &path))?,
        }
        // For whoever waits, in vain.
        if let Err(error) = note(&file) {
            log::debug!("{}: {error}", path.display());
        }
        Ok(Self { _file: file })
    }
}

fn lock(file: &File, operation: FlockOperation) -> Result<(), rustix::io::Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation))
}

/// Waits in a thread, since flock(2) has no timeout. A thread that gets the lock too
/// late gives it back at once.
fn wait(file: File, patience: Duration, path: &Path) -> Result<File, LockError> {
    let (send, receive) = mpsc::sync_channel(0);
    let mut shown = file.try_clone().map_err(|source| LockError::Io {
        call: "dup",
        path: path.to_owned(),
        source,
    })?;
    thread::spawn(move || {
        let locked = lock(&file, FlockOperation::LockExclusive);
        // Nobody waits any more: dropped, and so unlocked.
        send.send(locked.map(|()| file)).ok();
    });
    match receive.recv_timeout(patience) {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(error)) => Err(LockError::Io {
            call: "flock",
            path: path.to_owned(),
            source: error.into(),
        }),
        Err(_) => Err(LockError::Held {
            path: path.to_owned(),
            patience,
            holder: holder(&mut shown),
        }),
    }
}

/// Says who has the lock.
fn note(file: &File) -> io::Result<()> {
    // As long as any: one write replaces it.
    let pid = format!("{:<10}\n", std::process::id());
    file.write_all_at(pid.as_bytes(), 0)
}

/// Who said so last.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!("process {pid} has it"),
        _ => "another process has it".to_owned(),
    }
}

/// Makes a directory that only its owner may enter; nothing where it is there. An empty
/// one of the owner's that nobody else may write is made so: the kubelet makes them
/// with mode 0755.
///
/// # Errors
///
/// Where the file system refuses it, or what is there is a link, another's or open to
/// others: closed, nothing of ours is written there.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let owner = rustix::process::geteuid().as_raw();
    let mut found = fs::symlink_metadata(dir)?;
    let is_ours = found.is_dir() && found.uid() == owner && found.mode() & 0o022 == 0;
    if is_ours && found.mode() & 0o055 != 0 && fs::read_dir(dir)?.next().is_none() {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        found = fs::symlink_metadata(dir)?;
    }
    if !found.is_dir() || found.uid() != owner || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "it is there and not a directory of root's alone (mode 0700)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn a_second_holder_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("run");
        let first = Lock::acquire(&dir).unwrap();
        let (send, receive) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let _second = Lock::acquire(&dir).unwrap();
            send.send(()).unwrap();
        });
        assert!(receive.recv_timeout(Duration::from_millis(100)).is_err());
        drop(first);
        receive.recv_timeout(Duration::from_secs(10)).unwrap();
        waiter.join().unwrap();
    }

    #[test]
    fn a_link_or_a_directory_of_others_is_not_written_to() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let [open, used, link] = ["open", "used", "link"].map(|name| dir.path().join(name));
        for (place, mode) in [(&open, 0o777), (&used, 0o755)] {
            fs::create_dir(place).unwrap();
            fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(used.join("anybodys"), "").unwrap();
        symlink(dir.path(), &link).unwrap();
        for place in [open, used, link] {
            let said = Lock::acquire(&place).unwrap_err().to_string();
            assert!(said.contains("root's alone (mode 0700)"), "{said}");
            assert!(!place.join("lock").exists());
        }
    }

    #[test]
    fn an_empty_directory_that_the_kubelet_made_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("made");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        let _lock = Lock::acquire(&place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn who_keeps_it_is_named_and_a_late_lock_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("run");
        let first = Lock::acquire(&dir).unwrap();
        let impatient = || Lock::acquire_within(&dir, "lock", Duration::from_millis(10));
        let said = impatient().unwrap_err().to_string();
        let holder = format!("process {} has it", std::process::id());
        assert!(
            said.contains(&holder) && said.contains("/run/lock"),
            "{said}"
        );
        drop(first);
        // The thread that still waits gets it, and nobody is there to take it.
        drop(Lock::acquire(&dir).unwrap());
        drop(Lock::acquire(&dir).unwrap());
    }
}
