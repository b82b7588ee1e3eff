//! Where a container lives: the device of its root and the namespaces around it,
//! as drift and allow-lists ask for them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor, statfs};

/// `OVERLAYFS_SUPER_MAGIC` of include/uapi/linux/magic.h
const OVERLAY: u64 = 0x794c_7630;

/// Names of what else container engines make roots of (the same file, and the
/// file systems' own headers).
const KNOWN: [(u64, &str); 7] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x6573_5546, "FUSE, as fuse-overlayfs is"),
    (0x0102_1994, "tmpfs"),
    (0xe0f5_e1e2, "erofs"),
];

/// Why it can't be told.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Drift asks which layer a file is on.
    #[error(
        "drift: the container's root {root} is on {found}, expected overlay, the only file system \
         that tells a file of the image from a new one; use the overlay snapshotter or storage \
         driver, or leave drift off"
    )]
    NotOverlay {
        /// The root, as this process sees it.
        root: PathBuf,
        /// Its file system.
        found: String,
    },
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
}

/// Inode numbers of the namespaces of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Its mount namespace; 0 for none.
    pub mnt: u32,
    /// Its pid namespace; 0 for none.
    pub pid: u32,
}

impl Namespaces {
    /// Of a process, by its id in this pid namespace.
    ///
    /// # Errors
    ///
    /// Where it is gone.
    pub fn of(pid: i32) -> Result<Self, SiteError> {
        Self::below(&PathBuf::from(format!("/proc/{pid}/ns")))
    }

    /// Of this process.
    ///
    /// # Errors
    ///
    /// Without /proc.
    pub fn own() -> Result<Self, SiteError> {
        Self::below(Path::new("/proc/self/ns"))
    }

    fn below(dir: &Path) -> Result<Self, SiteError> {
        Ok(Self {
            mnt: inode(&dir.join("mnt"))?,
            pid: inode(&dir.join("pid"))?,
        })
    }
}

/// Where a container lives; zeros where nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Device of its root, as the kernel writes it inside.
    pub root_dev: u32,
    /// Its mount namespace.
    pub mnt_ns: u32,
    /// The namespaces of its runtime.
    pub runtime: Namespaces,
}

impl Site {
    /// The namespaces of a runtime, for a container in the mount namespace `mnt_ns`.
    ///
    /// Closed: what shares the runtime's can't be told from it, so nothing is
    /// exempted there.
    #[must_use]
    pub fn exempted(mnt_ns: u32, runtime: Namespaces) -> Namespaces {
        if mnt_ns == runtime.mnt {
            Namespaces::default()
        } else {
            runtime
        }
    }

    /// Looks at the first process `pid` of a container and its root, and at the
    /// latter's device where `drift` is asked for.
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container.
    pub fn of(pid: i32, root: &Path, runtime: Namespaces, drift: bool) -> Result<Self, SiteError> {
        let root_dev = if drift { root_device(root)? } else { 0 };
        let mnt_ns = Namespaces::of(pid)?.mnt;
        Ok(Self {
            root_dev,
            mnt_ns,
            runtime: Self::exempted(mnt_ns, runtime),
        })
    }
}

/// The device of a root that is an overlay. Of the directory: a file may show
/// that of its layer.
fn root_device(root: &Path) -> Result<u32, SiteError> {
    let failed = |call| {
        let path = root.to_owned();
        move |source| SiteError::Io { call, path, source }
    };
    let kind = statfs(root)
        .map_err(|error| failed("statfs")(error.into()))?
        .f_type;
    let kind = u64::from(u32::try_from(kind & 0xffff_ffff).unwrap_or(0));
    if kind != OVERLAY {
        let known = KNOWN.iter().find(|(magic, _)| *magic == kind);
        return Err(SiteError::NotOverlay {
            root: root.to_owned(),
            found: known.map_or_else(
                || format!("a file system of type {kind:#x}"),
                |(_, name)| (*name).to_owned(),
            ),
        });
    }
    Ok(inside(fs::metadata(root).map_err(failed("stat"))?.dev()))
}

/// A device number as the kernel writes it inside (include/linux/kdev_t.h).
fn inside(dev: u64) -> u32 {
    const MINOR_BITS: u32 = 20;
    major(dev) << MINOR_BITS | minor(dev)
}

/// The inode number of a namespace's file: 32 bits (`ns_common.inum`).
fn inode(path: &Path) -> Result<u32, SiteError> {
    let io = |source| SiteError::Io {
        call: "stat",
        path: path.to_owned(),
        source,
    };
    let inode = fs::metadata(path).map_err(io)?.ino();
    u32::try_from(inode).map_err(|_huge| io(io::ErrorKind::InvalidData.into()))
}

#[cfg(test)]
mod tests {
    use rustix::fs::makedev;

    use super::*;

    #[test]
    fn a_device_is_written_as_the_kernel_does() {
        assert_eq!(inside(makedev(0, 45)), 45);
        assert_eq!(inside(makedev(8, 1)), 0x0080_0001);
        assert_eq!(inside(makedev(259, 0xf_ffff)), 0x103f_ffff);
    }

    #[test]
    fn a_root_that_is_no_overlay_is_refused_with_its_file_system() {
        let error = Site::of(1, Path::new("/proc"), Namespaces::default(), true)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/proc is on a file system of type 0x9fa0"),
            "{error}"
        );
        assert!(error.contains("overlay snapshotter"), "{error}");
    }

    #[test]
    fn without_drift_the_root_is_not_looked_at() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let runtime = Namespaces { mnt: 7, pid: 8 };
        let site = Site::of(pid, Path::new("/none"), runtime, false).unwrap();
        assert_eq!((site.root_dev, site.runtime), (0, runtime));
        let own = Namespaces::own().unwrap();
        assert_eq!(site.mnt_ns, own.mnt);
        // Without a mount namespace of its own nothing of the runtime is exempted.
        let site = Site::of(pid, Path::new("/none"), own, false).unwrap();
        assert_eq!(site.runtime, Namespaces::default());
    }
}
