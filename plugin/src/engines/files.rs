//! The files of a setup: read, shown as a diff, backed up, replaced.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use similar::TextDiff;

/// A file as it is, and as it is to be; `None` where it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) path: PathBuf,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

/// A file that could not be read or replaced.
#[derive(Debug, thiserror::Error)]
#[error("{call} {}: {source}", .path.display())]
pub(crate) struct FileError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError {
        call,
        path: path.to_owned(),
        source,
    }
}

/// Reads a text; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

impl Edit {
    /// Whether anything changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.before == self.after
    }

    /// As `diff -u` shows it.
    pub(crate) fn diff(&self) -> String {
        let path = self.path.display().to_string();
        let name = |text: &Option<String>| match text {
            Some(_) => path.clone(),
            None => "/dev/null".to_owned(),
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (before, after) = (text(&self.before), text(&self.after));
        TextDiff::from_lines(&before, &after)
            .unified_diff()
            .context_radius(3)
            .header(&name(&self.before), &name(&self.after))
            .to_string()
    }

    /// Where what was there before the first edit is kept.
    pub(crate) fn backup(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".execblock-backup");
        name.into()
    }

    /// Keeps what was there, unless an earlier edit has, and replaces the file as
    /// a whole. A link's target is replaced, not the link.
    pub(crate) fn write(&self) -> Result<(), FileError> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_new| self.path.clone());
        if let Some(before) = &self.before {
            let backup = self.backup();
            if !backup.exists() {
                replace(&backup, before, &path)?;
            }
        }
        match &self.after {
            Some(after) => {
                if let Some(dir) = path.parent() {
                    fs::create_dir_all(dir).map_err(failed("mkdir", dir))?;
                }
                replace(&path, after, &path)
            }
            None if self.before.is_none() => Ok(()),
            None => fs::remove_file(&path).map_err(failed("unlink", &path)),
        }
    }
}

/// Writes a whole file, with mode and owner as `like` has them.
fn replace(path: &Path, text: &str, like: &Path) -> Result<(), FileError> {
    let mut new = path.to_path_buf().into_os_string();
    new.push(".execblock-new");
    let new = PathBuf::from(new);
    let written = (|| {
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        let mode = match fs::metadata(like) {
            Ok(found) => {
                std::os::unix::fs::fchown(&file, Some(found.uid()), Some(found.gid()))?;
                found.mode() & 0o7777
            }
            Err(_new) => 0o644,
        };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    written.map_err(|error| {
        // Half a file is nobody's.
        fs::remove_file(&new).ok();
        failed("write", path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(path: &Path, before: Option<&str>, after: Option<&str>) -> Edit {
        Edit {
            path: path.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        }
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, "one\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        edit(&link, Some("one\n"), Some("two\n")).write().unwrap();
        let second = edit(&link, Some("two\n"), Some("three\n"));
        second.write().unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("three\n"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read(&second.backup()).unwrap().as_deref(), Some("one\n"));
        assert_eq!(fs::metadata(second.backup()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        edit(&path, None, Some("x\n")).write().unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("x\n"));
        edit(&path, Some("x\n"), None).write().unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn the_diff_names_the_file_and_shows_what_changes() {
        let diff = edit("/etc/x".as_ref(), Some("a\nb\n"), Some("a\nc\n")).diff();
        assert_eq!(
            diff,
            "--- /etc/x\n+++ /etc/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
        let new = edit("/etc/x".as_ref(), None, Some("a\n")).diff();
        assert!(new.starts_with("--- /dev/null\n+++ /etc/x\n"), "{new}");
    }
}
