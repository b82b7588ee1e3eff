//! Why a cgroup could not be found or used.

use std::{
    io,
    path::{Path, PathBuf},
};

use plugin_common::LEVEL_MAX;

/// Why a cgroup could not be found or used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A machine with cgroup v1 alone: every process has the same id there.
    #[error(
        "no cgroup v2 hierarchy is mounted: mount one (systemd.unified_cgroup_hierarchy=1, or \
         mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified)"
    )]
    NoUnified,
    /// The process ended before its cgroup was known.
    #[error("process {0} is gone")]
    Gone(i32),
    /// Not below what is mounted here, as seen from another cgroup namespace.
    #[error("cgroup {0:?} is outside of the cgroup namespace of this process")]
    Outside(String),
    /// No directory of the container's own.
    #[error(
        "cgroup {path:?} of process {pid} neither carries the container's id {container} nor is \
         the one that its configuration asks for: it has no cgroup v2 of its own"
    )]
    NotOwn {
        /// Host process id.
        pid: i32,
        /// The path in the v2 hierarchy.
        path: String,
        /// The engine's id of the container.
        container: String,
    },
    /// The root, our own cgroup or one above it.
    #[error("cgroup {0:?} holds this process or the whole machine and is never bound")]
    Forbidden(String),
    /// Deeper than the kernel side looks.
    #[error("cgroup {path:?} is {level} levels deep, expected at most {LEVEL_MAX}")]
    TooDeep {
        /// The path in the v2 hierarchy.
        path: String,
        /// Its depth; the root has 0.
        level: u32,
    },
    /// A file of procfs that was not understood.
    #[error("reading the cgroups of process {pid}: {source}")]
    Proc {
        /// Host process id; 0 for this process.
        pid: i32,
        /// What procfs said.
        source: procfs::ProcError,
    },
    /// Another call.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

pub(super) fn failed<'a>(
    call: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |source| CgroupError::Io {
        call,
        path: path.to_owned(),
        source,
    }
}
