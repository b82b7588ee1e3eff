//! The file system that tells the numbers of perf's tracepoints. systemd mounts it; where
//! nobody did, `load` does, as it does with bpffs.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount};

/// Where it is looked for, the usual place first (Documentation/trace/ftrace.rst).
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where it is mounted.
pub(crate) fn place() -> Option<PathBuf> {
    let places = PLACES.into_iter().map(Path::new);
    let mut mounted = places.filter(|place| place.join("events").is_dir());
    mounted.next().map(Path::to_owned)
}

/// Mounts it where it is not.
pub(crate) fn ensure() -> io::Result<()> {
    if place().is_some() {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount(
        "tracefs",
        PLACES[0],
        "tracefs",
        flags,
        Some(c"mode=0700"),
    )?)
}
