//! The only module that touches cgroupfs: from a process or a path to the id
//! that the kernel side sees (`own` says which directory is meant, `namespace`
//! where paths begin), and cgroups of our own (`scratch`).
//!
//! Ids are those of the cgroup v2 hierarchy, alone or beside v1 (hybrid). An id
//! is the inode number of the directory (`kernfs_node` id, 64 bits since Linux
//! 5.5).

mod error;
mod namespace;
mod own;
mod scratch;
mod spawn;

use std::{
    cmp::Reverse,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use plugin_common::{CGROUP_ROOT, LEVEL_MAX};
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags};

pub use self::error::CgroupError;
pub use self::scratch::{Scratch, SpawnError};
pub use self::spawn::{Program, Spawned, fork_into};
use self::{error::failed, scratch::remove};

/// A cgroup that may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id, as `bpf_get_current_ancestor_cgroup_id` gives it.
    pub id: u64,
    /// Its depth, 0 for the root of the whole hierarchy; `None` where a cgroup
    /// namespace hides it.
    pub level: Option<u32>,
    /// Its path below the mount, beginning with a slash.
    pub path: String,
}

/// A container's first process, and what is known of its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init<'a> {
    /// Its id in this pid namespace.
    pub pid: i32,
    /// `linux.cgroupsPath` of the container's OCI configuration: a path, or
    /// `slice:prefix:name` where systemd manages cgroups.
    pub cgroups_path: Option<&'a str>,
    /// The root of its file systems, where it has not moved there yet (an OCI
    /// `createRuntime` hook); else it is the process's own.
    pub root: Option<&'a Path>,
}

impl From<i32> for Init<'_> {
    fn from(pid: i32) -> Self {
        Self {
            pid,
            cgroups_path: None,
            root: None,
        }
    }
}

/// The mounted v2 hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    /// Whether paths begin at the root of the whole hierarchy.
    whole: bool,
    /// The path of this process.
    own: String,
    /// Where this process's cgroup namespace begins: paths in /proc are told from
    /// there. Empty for the mount itself.
    begins: String,
}

impl Hierarchy {
    /// Finds the mount and this process's own place in it.
    ///
    /// # Errors
    ///
    /// [`CgroupError::NoUnified`] where there is none.
    pub fn find() -> Result<Self, CgroupError> {
        let proc_failed = |source| CgroupError::Proc { pid: 0, source };
        let process = Process::myself().map_err(proc_failed)?;
        let mounts = process.mountinfo().map_err(proc_failed)?;
        // The mount that shows most: a bind mount of a part has another root, and one
        // of the machine's in a cgroup namespace begins above that.
        let mount = mounts
            .into_iter()
            .filter(|mount| mount.fs_type == "cgroup2")
            .min_by_key(|mount| {
                let above = namespace::levels_above(&mount.root);
                (Reverse(above), mount.root.len())
            })
            .ok_or(CgroupError::NoUnified)?;
        let own = unified_path(&process, 0)?;
        let levels = namespace::levels_above(&mount.root).unwrap_or(0);
        let begins = namespace::begins_at(&mount.mount_point, levels, &own);
        let root = fs::metadata(&mount.mount_point).map_err(failed("stat", &mount.mount_point))?;
        Ok(Self {
            whole: root.ino() == CGROUP_ROOT,
            mount: mount.mount_point,
            own: namespace::resolve(&begins, &own),
            begins,
        })
    }

    /// Where the hierarchy is mounted.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The path of this process's own cgroup.
    #[must_use]
    pub fn own_path(&self) -> &str {
        &self.own
    }

    /// The cgroup of `path`, which begins with a slash.
    ///
    /// # Errors
    ///
    /// Where it does not exist, or may not be bound.
    pub fn cgroup(&self, path: &str) -> Result<Cgroup, CgroupError> {
        if path.split('/').any(|part| part == "..") {
            return Err(CgroupError::Outside(path.to_owned()));
        }
        let path = path.trim_end_matches('/');
        if path.is_empty() || is_within(&self.own, path) {
            return Err(CgroupError::Forbidden(
                if path.is_empty() { "/" } else { path }.to_owned(),
            ));
        }
        let level = depth(path);
        if level > LEVEL_MAX {
            return Err(CgroupError::TooDeep {
                path: path.to_owned(),
                level,
            });
        }
        let dir = self.dir(path);
        let id = fs::metadata(&dir).map_err(failed("stat", &dir))?.ino();
        if id <= CGROUP_ROOT {
            return Err(CgroupError::Forbidden(path.to_owned()));
        }
        Ok(Cgroup {
            id,
            level: self.whole.then_some(level),
            path: path.to_owned(),
        })
    }

    /// A cgroup that was bound by this path, and may be gone by now.
    #[must_use]
    pub fn recorded(&self, id: u64, path: &str) -> Cgroup {
        Cgroup {
            id,
            level: self.whole.then(|| depth(path)),
            path: path.to_owned(),
        }
    }

    /// The cgroup of a container, by its first process.
    ///
    /// That is the directory that carries the container's id, or the one that
    /// its configuration asks for; not always the one that the process is in,
    /// which may lie below (crun puts processes in `ID.scope/container`). Any
    /// other is refused: on a hybrid machine it can be the engine's own.
    ///
    /// # Errors
    ///
    /// Where the process is gone, or has no cgroup of the container's.
    pub fn of_container(&self, init: Init<'_>, container: &str) -> Result<Cgroup, CgroupError> {
        let Init {
            pid, cgroups_path, ..
        } = init;
        // The pidfd tells whether the number still means the same process
        // after its cgroup was read.
        let number = pid.max(0);
        let handle = Pid::from_raw(number).ok_or(CgroupError::Gone(pid))?;
        let pidfd = rustix::process::pidfd_open(handle, PidfdFlags::empty())
            .map_err(|_gone| CgroupError::Gone(pid))?;
        let process = Process::new(pid).map_err(|source| gone_or(pid, source))?;
        let path = namespace::resolve(&self.begins, &unified_path(&process, pid)?);
        let own =
            own::directory(&path, container, cgroups_path).ok_or_else(|| CgroupError::NotOwn {
                pid,
                path: path.clone(),
                container: container.to_owned(),
            })?;
        let cgroup = self.cgroup(own)?;
        if has_ended(&pidfd) {
            return Err(CgroupError::Gone(pid));
        }
        Ok(cgroup)
    }

    /// A process that is in the cgroup or below it, if there is one.
    #[must_use]
    pub fn any_process(&self, cgroup: &Cgroup) -> Option<i32> {
        any_process(&self.dir(&cgroup.path))
    }

    /// Whether a process is left in the cgroup or below it. Says yes in doubt:
    /// nothing is ever unbound because something else failed. `path` is where it
    /// was.
    #[must_use]
    pub fn is_populated(&self, id: u64, path: &str) -> bool {
        let dir = self.dir(path);
        if fs::metadata(&dir).is_ok_and(|found| found.ino() == id) {
            return has_processes(&dir);
        }
        self.is_alive(id)
    }

    /// Whether a cgroup with this id exists. Says yes in doubt: nothing is ever
    /// unbound because something else failed.
    #[must_use]
    pub fn is_alive(&self, id: u64) -> bool {
        self.living().has(id)
    }

    /// To ask that of many.
    #[must_use]
    pub fn living(&self) -> Living {
        Living(fs::File::open(&self.mount).ok())
    }

    /// Makes a cgroup of our own below this process's, for one command.
    ///
    /// # Errors
    ///
    /// Where cgroupfs refuses it.
    pub fn create(&self, name: &str) -> Result<Scratch, CgroupError> {
        let path = format!("{}/{name}", self.own.trim_end_matches('/'));
        let dir = self.dir(&path);
        fs::create_dir(&dir).map_err(failed("mkdir", &dir))?;
        match self.cgroup(&path) {
            Ok(cgroup) => Ok(Scratch { cgroup, dir }),
            Err(error) => {
                remove(&dir);
                Err(error)
            }
        }
    }

    /// Our own cgroups below this process's that are named by `prefix` and a process
    /// which is gone: what a killed command left.
    pub fn remove_left(&self, prefix: &str) {
        let Ok(entries) = fs::read_dir(self.dir(&self.own)) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else {
                continue;
            };
            if !Path::new("/proc").join(pid).exists() {
                // rmdir refuses a cgroup that is in use.
                remove(&entry.path());
            }
        }
    }

    fn dir(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }
}

/// Tells whether cgroups exist.
#[derive(Debug)]
pub struct Living(Option<fs::File>);

impl Living {
    /// Whether one with this id does. Says yes in doubt.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        let Some(mount) = &self.0 else {
            return true;
        };
        let mut handle = FileHandle {
            bytes: 8,
            // FILEID_KERNFS of include/linux/exportfs.h
            kind: 0xfe,
            id,
        };
        // SAFETY: the structure has the layout of struct file_handle with eight
        // bytes of handle, and lives as long as the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_raw_fd(),
                &raw mut handle,
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        let Ok(fd) = i32::try_from(fd) else {
            return true;
        };
        if fd >= 0 {
            // SAFETY: the call just made it, nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return true;
        }
        io::Error::last_os_error().raw_os_error() != Some(libc::ESTALE)
    }
}

/// `struct file_handle` of open_by_handle_at(2), for kernfs.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    id: u64,
}

/// The path of the `0::` line of /proc/PID/cgroup.
fn unified_path(process: &Process, pid: i32) -> Result<String, CgroupError> {
    let cgroups = process.cgroups().map_err(|source| gone_or(pid, source))?;
    cgroups
        .into_iter()
        .find(|cgroup| cgroup.hierarchy == 0)
        .map(|cgroup| cgroup.pathname)
        .ok_or(CgroupError::NoUnified)
}

fn gone_or(pid: i32, source: procfs::ProcError) -> CgroupError {
    match source {
        procfs::ProcError::NotFound(_) => CgroupError::Gone(pid),
        // ESRCH: it ended while its file was read.
        procfs::ProcError::Io(ref error, _) if error.raw_os_error() == Some(libc::ESRCH) => {
            CgroupError::Gone(pid)
        }
        source => CgroupError::Proc { pid, source },
    }
}

/// A pidfd becomes readable when its process ends.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(
        pidfd,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // In doubt it has: the container is refused rather than a stranger bound.
    rustix::event::poll(&mut fds, Some(&now)) != Ok(0)
}

fn any_process(dir: &Path) -> Option<i32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process of another pid namespace.
    let mut pids = own.lines().filter_map(|line| line.parse().ok());
    pids.find(|&pid| pid > 0).or_else(|| {
        let below = fs::read_dir(dir).ok()?.flatten();
        below
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .find_map(|entry| any_process(&entry.path()))
    })
}

/// What the kernel says of a cgroup and those below it. In doubt there are some.
fn has_processes(dir: &Path) -> bool {
    fs::read_to_string(dir.join("cgroup.events")).map_or(true, |events| {
        events.lines().any(|line| line == "populated 1")
    })
}

/// On which level a cgroup is, by its path; the root is on 0.
fn depth(path: &str) -> u32 {
    let parts = path.split('/').filter(|part| !part.is_empty());
    u32::try_from(parts.count()).unwrap_or(u32::MAX)
}

/// Whether `path` is `above` or lies below it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
