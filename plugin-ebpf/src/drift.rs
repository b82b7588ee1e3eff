//! Whether a file came with the container's image, and the one exemption: what
//! the container's runtime executes of its own in the container's cgroup.

use plugin_common::Container;

use crate::{
    container::Found,
    field::{Origin, Task},
    report,
};

/// Whether a program drifted: it has no link, or lies on another file system than
/// the container's root, or on the upper layer of its overlay.
///
/// `listed` says that its path is allowed: that admits another file system, where
/// the file's mount is one of the container's or of its runtime's own (an
/// interpreter that binfmt_misc opened when it was registered). A mount that a
/// process made in a namespace of its own is neither.
#[inline(always)]
pub fn drifted(found: &Found, origin: &Option<Origin>, listed: bool) -> bool {
    let container = found.container;
    let Some(origin) = origin else {
        return unreadable();
    };
    if origin.dev == container.root_dev {
        return match origin.is_upper() {
            Some(upper) => upper || origin.nlink == 0,
            None => unreadable(),
        };
    }
    if !listed || origin.nlink == 0 {
        return true;
    }
    match origin.mnt_ns() {
        None => unreadable(),
        Some(0) => true,
        Some(ns) => ns != container.mnt_ns && ns != container.runtime_mnt_ns,
    }
}

/// Whether it is the container's runtime on its way into the container that maps
/// one of its own files, or of the libraries that it is linked with.
#[inline(always)]
pub fn is_runtimes_mapping(found: &Found, origin: &Option<Origin>) -> bool {
    is_runtime(found) && is_elsewhere(found.container, origin, true)
}

/// Whether the container's runtime executes itself on its way into the container
/// (runc 1.4 and later `exec`, which clones into the cgroup first).
///
/// Then the file is a clone that runc made: on no mount of any namespace. All of
/// this a process of the container can bring about only when it is in the mount
/// namespace and the pid namespace of the runtime, and so owns the node.
#[inline(always)]
pub fn is_runtimes_own(found: &Found, origin: &Option<Origin>) -> bool {
    is_runtime(found) && is_elsewhere(found.container, origin, false)
}

/// Whether the process is still in the namespaces of the runtime, and its parent
/// out of the container. Never by argv or comm, which anybody can set.
#[inline(always)]
fn is_runtime(found: &Found) -> bool {
    let container = found.container;
    if container.runtime_mnt_ns == 0 || container.runtime_pid_ns == 0 {
        return false;
    }
    let task = Task::current();
    task.mnt_ns() == container.runtime_mnt_ns
        && task.pid_ns() == container.runtime_pid_ns
        && !found.outside
        && !task.parent_is_below(found.cgroup)
}

/// Whether the file is on no mount; or, for what the runtime's loader maps, on one
/// of the runtime's own.
#[inline(always)]
fn is_elsewhere(container: &Container, origin: &Option<Origin>, attached: bool) -> bool {
    match origin.as_ref().and_then(Origin::mnt_ns) {
        Some(0) => true,
        Some(ns) => attached && ns == container.runtime_mnt_ns,
        None => false,
    }
}

/// Closed: what can't be told is drift. Counted.
#[inline(always)]
fn unreadable() -> bool {
    report::count(|stats| &mut stats.unreadable);
    true
}
