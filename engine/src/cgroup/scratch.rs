//! Cgroups of our own, for one command each.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Cgroup, has_processes,
    spawn::{self, Program, Spawned},
};

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

    /// Starts a program in it: the process is there before it execs.
    ///
    /// # Errors
    ///
    /// [`SpawnError::Join`] where it could not be there, [`SpawnError::Exec`] where the
    /// exec itself failed.
    pub fn spawn(&self, program: Program<'_>) -> Result<Spawned, SpawnError> {
        spawn::spawn(&self.dir, program)
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
