//! Cgroups of our own, for one command each.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use super::{Cgroup, has_processes};

/// A cgroup of our own; removed when dropped, unless something is left in it.
#[derive(Debug)]
pub struct Scratch {
    pub(super) cgroup: Cgroup,
    pub(super) dir: PathBuf,
}

impl Scratch {
    /// What to bind.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Starts a command in it: the process joins before it execs.
    ///
    /// # Errors
    ///
    /// [`SpawnError::Join`] where it could not join, [`SpawnError::Exec`] where
    /// the exec itself failed.
    pub fn spawn(&self, mut command: Command) -> Result<Child, SpawnError> {
        let procs = self.dir.join("cgroup.procs");
        let procs = fs::OpenOptions::new()
            .write(true)
            .open(&procs)
            .map_err(|source| SpawnError::Join {
                path: procs,
                source,
            })?;
        // SAFETY: between fork and exec only write(2) is called, on a
        // descriptor that was opened before.
        unsafe {
            command.pre_exec(move || match rustix::io::write(&procs, b"0") {
                Ok(_) => Ok(()),
                // Told from an error of exec by an errno that exec never gives.
                Err(_) => Err(io::Error::from_raw_os_error(JOIN_FAILED)),
            });
        }
        command
            .spawn()
            .map_err(|source| match source.raw_os_error() {
                Some(JOIN_FAILED) => SpawnError::Join {
                    path: self.dir.clone(),
                    source,
                },
                _ => SpawnError::Exec(source),
            })
    }

    /// Whether a process is left in it or below.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        has_processes(&self.dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// execve(2) does not give it.
const JOIN_FAILED: i32 = libc::EL2NSYNC;

/// Why a command did not start in its cgroup.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// It could not join the cgroup; nothing was executed.
    #[error("could not join cgroup {path}: {source}")]
    Join {
        /// The directory or file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// execve(2) failed.
    #[error("{0}")]
    Exec(#[source] io::Error),
}

/// Removes a cgroup and those below it; leaves what is in use.
pub(super) fn remove(dir: &Path) {
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
    }
    if let Err(error) = fs::remove_dir(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::debug!("rmdir {}: {error}", dir.display());
    }
}
