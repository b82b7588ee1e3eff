//! Reads files that decide what containers may do: root's alone, on a way that
//! is root's alone.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

/// Most bytes of such a file.
const SIZE_MAX: u64 = 1 << 20;
/// Most links on the way to it, as the kernel has it (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Somebody else could have written it, or put it there.
    #[error("{path} is refused: {part} {problem}")]
    Refused {
        /// The file that was asked for.
        path: PathBuf,
        /// It, or what is on the way to it.
        part: PathBuf,
        /// What is wrong with that, and what was expected.
        problem: String,
    },
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The text of a file that `owner` alone could have written; whoever wrote it
/// where that is `None`. `None` where there is no such file, after one failed
/// open(2).
///
/// # Errors
///
/// Where it can't be read, is no UTF-8, or somebody else could have written it.
pub(crate) fn read(path: &Path, owner: Option<u32>) -> Result<Option<String>, TrustError> {
    let io = |source: io::Error| TrustError::Io {
        path: path.to_owned(),
        source,
    };
    // A pipe must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let followed = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(io(error.into())),
    };
    let file = match owner {
        None => followed,
        Some(owner) => Walk { path, owner }.open()?,
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| io(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(TrustError::Refused {
            path: path.to_owned(),
            part: path.to_owned(),
            problem: "is no regular file".to_owned(),
        });
    }
    let mut text = String::new();
    let mut limited = std::fs::File::from(file).take(SIZE_MAX + 1);
    limited.read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(TrustError::Refused {
            path: path.to_owned(),
            part: path.to_owned(),
            problem: format!("has more than {SIZE_MAX} bytes"),
        });
    }
    Ok(Some(text))
}

/// The way from the root to a file, a component at a time.
struct Walk<'a> {
    path: &'a Path,
    owner: u32,
}

impl Walk<'_> {
    fn open(&self) -> Result<OwnedFd, TrustError> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let origin = |part: &Path| {
            let start = if part.is_absolute() { "/" } else { "." };
            rustix::fs::open(start, directory, Mode::empty()).map_err(|error| self.io(error))
        };
        let mut at = origin(self.path)?;
        let mut shown = PathBuf::from(if self.path.is_absolute() { "/" } else { "" });
        let mut left = components(self.path);
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let part = shown.join(&name);
            let stat = rustix::fs::statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| self.io(error))?;
            self.check(&part, &stat)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(self.io(rustix::io::Errno::LOOP));
                    }
                    let target = rustix::fs::readlinkat(&at, &name, Vec::new())
                        .map_err(|error| self.io(error))?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        at = origin(&target)?;
                        shown = PathBuf::from("/");
                    }
                    let mut more = components(&target);
                    more.append(&mut left);
                    left = more;
                }
                FileType::Directory if !left.is_empty() => {
                    at = rustix::fs::openat(&at, &name, directory, Mode::empty())
                        .map_err(|error| self.io(error))?;
                    shown = part;
                }
                _ => return self.last(&at, &name, &part),
            }
        }
        // A path without a name: the root.
        Err(self.io(rustix::io::Errno::ISDIR))
    }

    /// Opens what the way ends in, and looks at it once more: it may be another
    /// one by now.
    fn last(&self, at: &OwnedFd, name: &OsString, part: &Path) -> Result<OwnedFd, TrustError> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|error| self.io(error))?;
        let stat = rustix::fs::fstat(&file).map_err(|error| self.io(error))?;
        self.check(part, &stat)?;
        Ok(file)
    }

    /// Closed: what others may change is not followed.
    fn check(&self, part: &Path, stat: &Stat) -> Result<(), TrustError> {
        let refused = |problem: String| TrustError::Refused {
            path: self.path.to_owned(),
            part: part.to_owned(),
            problem,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_uid != self.owner && stat.st_uid != 0 {
            return Err(refused(format!(
                "belongs to user {}, expected root; chown it",
                stat.st_uid
            )));
        }
        // A link's mode says nothing, and in a sticky directory nobody replaces
        // what is another's.
        let sticky = kind == FileType::Directory && stat.st_mode & 0o1000 != 0;
        if kind != FileType::Symlink && !sticky && stat.st_mode & 0o022 != 0 {
            return Err(refused(format!(
                "may be written by its group or others (mode {:04o}), expected by its owner \
                 alone; chmod go-w it",
                stat.st_mode & 0o7777
            )));
        }
        Ok(())
    }

    fn io(&self, error: rustix::io::Errno) -> TrustError {
        TrustError::Io {
            path: self.path.to_owned(),
            source: error.into(),
        }
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path, owner: u32) -> String {
        match read(path, Some(owner)) {
            Err(error @ TrustError::Refused { .. }) => error.to_string(),
            other => panic!("{}: {other:?}", path.display()),
        }
    }

    /// A directory and a file in it that are the owner's alone.
    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        fs::write(&path, "text").unwrap();
        mode(&path, 0o644);
        (dir, path)
    }

    #[test]
    fn a_file_of_the_owners_alone_is_read() {
        let (dir, path) = file();
        assert_eq!(read(&path, Some(me())).unwrap().as_deref(), Some("text"));
        assert_eq!(read(&path, None).unwrap().as_deref(), Some("text"));
        let none = dir.path().join("none/x.toml");
        assert_eq!(read(&none, Some(me())).unwrap(), None);
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let (dir, path) = file();
        for bits in [0o664, 0o646] {
            mode(&path, bits);
            let said = refused(&path, me());
            assert!(said.contains("a.toml may be written by"), "{said}");
        }
        mode(&path, 0o644);
        mode(dir.path(), 0o777);
        assert!(refused(&path, me()).contains("expected by its owner alone"));
        mode(dir.path(), 0o1777);
        assert!(read(&path, Some(me())).is_ok());
        mode(dir.path(), 0o755);
        assert!(read(&path, None).is_ok());
    }

    #[test]
    fn a_link_is_followed_as_far_as_it_may_be() {
        let (dir, path) = file();
        let link = dir.path().join("link.toml");
        symlink("below/../a.toml", &link).unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        mode(&below, 0o755);
        assert_eq!(read(&link, Some(me())).unwrap().as_deref(), Some("text"));
        // A directory on the way of the link that others may write.
        mode(&below, 0o775);
        assert!(refused(&link, me()).contains("below may be written"));
        let absolute = dir.path().join("absolute.toml");
        symlink(&path, &absolute).unwrap();
        assert_eq!(
            read(&absolute, Some(me())).unwrap().as_deref(),
            Some("text")
        );
        let endless = dir.path().join("endless.toml");
        symlink("endless.toml", &endless).unwrap();
        assert!(matches!(
            read(&endless, Some(me())),
            Err(TrustError::Io { .. })
        ));
    }

    #[test]
    fn what_is_anothers_is_refused() {
        if me() != 0 {
            // Nobody else can give a file away.
            return;
        }
        let (dir, path) = file();
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        assert!(refused(&path, 0).contains("belongs to user 1000"));
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        let link = dir.path().join("link.toml");
        symlink(&path, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(1000), None).unwrap();
        assert!(refused(&link, 0).contains("link.toml belongs to user 1000"));
        // Not one, and not by way of another.
        let over = dir.path().join("over.toml");
        symlink(&link, &over).unwrap();
        assert!(refused(&over, 0).contains("link.toml belongs to user 1000"));
    }

    #[test]
    fn what_is_no_file_or_too_long_is_refused() {
        let (dir, path) = file();
        assert!(refused(dir.path(), me()).contains("is no regular file"));
        fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(refused(&path, me()).contains("more than"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(
            read(&path, Some(me())),
            Err(TrustError::Io { .. })
        ));
    }
}
