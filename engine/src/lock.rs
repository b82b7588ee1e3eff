//! One writer at a time: binding reads and writes several maps, and the writers
//! are different processes.

use std::{fs::File, io, path::Path, path::PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Where everything of ours that is not a pin lies: the lock and the records.
pub const RUN_DIR: &str = "/run/execblock";

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("{call} {path}: {source}")]
pub struct LockError {
    /// The call that failed.
    pub call: &'static str,
    /// What it was called on.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
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
    /// Where the directory or the file can't be made: fails closed, nothing is
    /// bound without the lock.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |call, path: &Path| {
            let path = path.to_owned();
            move |error: rustix::io::Errno| LockError {
                call,
                path,
                source: error.into(),
            }
        };
        private_dir(dir).map_err(|source| LockError {
            call: "mkdir",
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join("lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(failed("open", &path))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(failed("flock", &path))?;
        Ok(Self { _file: file.into() })
    }
}

/// Makes a directory that only root may enter; nothing where it is there.
///
/// # Errors
///
/// Where the file system refuses it.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
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
}
