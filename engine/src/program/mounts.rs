//! The mounts of a container: on which of them a file lies, and whether it came
//! with the image.
//!
//! What the kernel side reads from the inode, whether it has an upper layer, no
//! call tells. So the upper directory is looked at where it can be reached: what
//! overlayfs shows from its upper layer lies there under the same path, renamed
//! directories too.

use std::{
    ffi::OsStr,
    fs,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use procfs::process::MountInfo;
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::matching::Whence;

/// Where a file lies, and why that is not known.
pub(super) type Lies = (Whence, Option<String>);

/// Mounts, as a process sees them.
#[derive(Debug)]
pub(super) struct Mounts {
    all: Vec<MountInfo>,
    /// The mount that is the process's root.
    root: i32,
    /// Roots below which an upper directory may be found.
    from: Vec<PathBuf>,
}

impl Mounts {
    /// `from` are directories below which the paths of whoever mounted the
    /// root may be looked up.
    pub(super) fn new(mounts: Vec<MountInfo>, root: BorrowedFd<'_>, from: Vec<PathBuf>) -> Self {
        Self {
            root: mount_id(root).unwrap_or(-1),
            all: mounts,
            from,
        }
    }

    fn find(&self, id: i32) -> Option<&MountInfo> {
        // Of mounts on one place the last is on top; ids are unique.
        self.all.iter().find(|mount| mount.mnt_id == id)
    }

    fn of(&self, file: BorrowedFd<'_>) -> Option<&MountInfo> {
        self.find(mount_id(file)?)
    }

    /// Whether programs may not be executed from where the file lies.
    pub(super) fn is_noexec(&self, file: BorrowedFd<'_>) -> bool {
        self.of(file)
            .is_some_and(|mount| mount.mount_options.contains_key("noexec"))
    }

    /// The name of a file that is mounted over another: its own, not the path's.
    pub(super) fn mounted_name(&self, file: BorrowedFd<'_>, inside: &Path) -> Option<Vec<u8>> {
        let mount = self.of(file)?;
        if unescape(mount.mount_point.as_os_str()) != inside.as_os_str().as_bytes() {
            return None;
        }
        let root = unescape(OsStr::new(&mount.root));
        let root = root.strip_suffix(b"//deleted").unwrap_or(&root);
        Some(crate::matching::last_component(root).to_vec())
    }

    /// Where a file of this path, as the process sees it, lies.
    pub(super) fn whence(&self, file: BorrowedFd<'_>, inside: &Path) -> Lies {
        let unknown = |why: String| (Whence::Unknown, Some(why));
        let stat = match rustix::fs::fstat(file) {
            Ok(stat) => stat,
            Err(error) => return unknown(format!("stat: {error}")),
        };
        if stat.st_nlink == 0 {
            return (Whence::Unlinked, None);
        }
        let (Some(root), Some(mount)) = (self.find(self.root), self.of(file)) else {
            return unknown("its mount is not one of the container's".to_owned());
        };
        if mount.majmin != root.majmin {
            return (Whence::Elsewhere, None);
        }
        if mount.fs_type != "overlay" {
            return (Whence::Image, None);
        }
        let linked = stat.st_nlink > 1;
        self.layer(mount, inside, linked).unwrap_or_else(unknown)
    }

    fn layer(&self, mount: &MountInfo, inside: &Path, linked: bool) -> Result<Lies, String> {
        let Some(upper) = self.upper(mount)? else {
            // Nothing can be written.
            return Ok((Whence::Image, None));
        };
        let point = unescape(mount.mount_point.as_os_str());
        let below = inside
            .strip_prefix(OsStr::from_bytes(&point))
            .map_err(|_outside| format!("{} is not below its mount", inside.display()))?;
        let root = unescape(OsStr::new(&mount.root));
        let path = Path::new(OsStr::from_bytes(&root)).join(below);
        let path = path.strip_prefix("/").unwrap_or(&path);
        let found = rustix::fs::openat2(
            &upper,
            path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        );
        let file = match found {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let indexed = mount
                    .super_options
                    .get("index")
                    .is_some_and(|value| value.as_deref() == Some("on"));
                if linked && indexed {
                    return Err("it has several links, one of which may be changed".to_owned());
                }
                return Ok((Whence::Image, None));
            }
            Err(error) => return Err(format!("looking into the upper layer: {error}")),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| format!("upper layer: {error}"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            // A whiteout, say: the directory is not this overlay's, or it changes.
            return Err("the upper layer has no file there".to_owned());
        }
        if has_metadata_alone(&file) {
            return Ok((Whence::Image, None));
        }
        Ok((Whence::Upper, None))
    }

    /// The upper directory of an overlay; `None` where it has none.
    ///
    /// A directory counts where the work directory that belongs to it is beside
    /// it, on the same file system, with what overlayfs makes in it.
    fn upper(&self, mount: &MountInfo) -> Result<Option<OwnedFd>, String> {
        let option = |name| {
            let value = mount.super_options.get(name).cloned().flatten();
            value.map(|path| unescape(OsStr::new(&path)))
        };
        let Some(upper) = option("upperdir") else {
            return Ok(None);
        };
        let shown = String::from_utf8_lossy(&upper).into_owned();
        let work = option("workdir").unwrap_or_default();
        if !upper.starts_with(b"/") || !work.starts_with(b"/") {
            return Err(format!("the upper layer is at {shown}, a relative path"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for from in &self.from {
            let at = |path: &[u8]| {
                let path = Path::new(OsStr::from_bytes(path));
                from.join(path.strip_prefix("/").unwrap_or(path))
            };
            let opened = rustix::fs::open(at(&upper), flags, Mode::empty());
            let made = rustix::fs::stat(at(&work).join("work"));
            let (Ok(opened), Ok(made)) = (opened, made) else {
                continue;
            };
            if rustix::fs::fstat(&opened).is_ok_and(|stat| stat.st_dev == made.st_dev) {
                return Ok(Some(opened));
            }
        }
        Err(format!(
            "the upper layer, {shown}, is not to be seen from here"
        ))
    }
}

/// Whether overlayfs copied up only what stat shows (`metacopy=on`).
fn has_metadata_alone(file: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let names = ["trusted.overlay.metacopy", "user.overlay.metacopy"];
    names
        .iter()
        .any(|name| rustix::fs::getxattr(&path, *name, &mut [0_u8; 64]).is_ok())
}

/// The mount of an open file (`mnt_id` of fdinfo, Linux 3.15).
fn mount_id(file: BorrowedFd<'_>) -> Option<i32> {
    let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
    let info = fs::read_to_string(path).ok()?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

/// mountinfo writes white space and backslashes as `\ooo` (`mangle_path` in
/// fs/seq_file.c).
fn unescape(text: &OsStr) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        let octal = behind.get(..3).filter(|_| *byte == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        (plain, rest) = match code {
            Some(code) => (push(plain, code), behind.get(3..).unwrap_or_default()),
            None => (push(plain, *byte), behind),
        };
    }
    plain
}

fn push(mut text: Vec<u8>, byte: u8) -> Vec<u8> {
    text.push(byte);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mountinfo_are_taken_out() {
        for (text, expected) in [
            ("/a", &b"/a"[..]),
            (r"/a\040b\134", b"/a b\\"),
            (r"/a\04", br"/a\04"),
            (r"\x41", br"\x41"),
        ] {
            assert_eq!(unescape(OsStr::new(text)), expected, "{text}");
        }
    }
}
