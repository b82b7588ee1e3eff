//! The file systems that PID 1 finds missing: the userland is an unpacked root and nothing else.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};

use crate::process;

struct Mount {
    kind: &'static str,
    at: &'static str,
    options: &'static str,
}

const MOUNTS: &[Mount] = &[
    Mount {
        kind: "proc",
        at: "/proc",
        options: "",
    },
    Mount {
        kind: "sysfs",
        at: "/sys",
        options: "",
    },
    Mount {
        kind: "devtmpfs",
        at: "/dev",
        options: "mode=0755",
    },
    Mount {
        kind: "devpts",
        at: "/dev/pts",
        options: "gid=5,mode=620,ptmxmode=666",
    },
    Mount {
        kind: "tmpfs",
        at: "/dev/shm",
        options: "mode=1777",
    },
    Mount {
        kind: "mqueue",
        at: "/dev/mqueue",
        options: "",
    },
    Mount {
        kind: "tmpfs",
        at: "/run",
        options: "mode=0755",
    },
    Mount {
        kind: "tmpfs",
        at: "/tmp",
        options: "mode=1777",
    },
    // Container storage: the root may itself be an overlay, which can't be an upper layer.
    Mount {
        kind: "tmpfs",
        at: crate::containerd::STATE,
        options: "mode=0755",
    },
    Mount {
        kind: "cgroup2",
        at: "/sys/fs/cgroup",
        options: "nsdelegate",
    },
    Mount {
        kind: "bpf",
        at: "/sys/fs/bpf",
        options: "mode=0700",
    },
    Mount {
        kind: "tracefs",
        at: "/sys/kernel/tracing",
        options: "",
    },
    Mount {
        kind: "securityfs",
        at: "/sys/kernel/security",
        options: "",
    },
];

/// Mounts what the kernel has, and returns what it has not.
pub(crate) fn all() -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for Mount { kind, at, options } in MOUNTS {
        // Directories below /proc and /sys are the kernel's to make.
        if let Err(error) = fs::create_dir_all(at)
            && !Path::new(at).is_dir()
        {
            missing.push(format!("{at}: {error}"));
            continue;
        }
        if is_mounted(at) {
            continue;
        }
        let data = std::ffi::CString::new(*options).context("mount options")?;
        let options = (!options.is_empty()).then_some(data.as_c_str());
        if let Err(error) = mount(*kind, *at, *kind, MountFlags::empty(), options) {
            missing.push(format!("{kind} on {at}: {error}"));
        }
    }
    Ok(missing)
}

/// What programs expect of a machine that has been up for a while.
pub(crate) fn settle() -> Result<()> {
    // Kernel messages would fall between the lines of the protocol.
    fs::write("/proc/sys/kernel/printk", "1 4 1 7").context("quieten the console")?;
    if !Path::new("/etc/resolv.conf").exists() {
        fs::write("/etc/resolv.conf", "")?;
    }
    if !Path::new("/etc/hosts").exists() {
        fs::write("/etc/hosts", "127.0.0.1 localhost\n")?;
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
    ] {
        match std::os::unix::fs::symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    process::run(process::command("ip").args(["link", "set", "lo", "up"]))?.success()?;
    Ok(())
}

fn is_mounted(at: &str) -> bool {
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| {
        mounts
            .lines()
            .any(|line| line.split(' ').nth(1) == Some(at))
    })
}
