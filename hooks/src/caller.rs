//! Tells the reason of a refusal to whoever started the runtime that calls the
//! hook.
//!
//! runc puts the hook's standard error into its own error. crun gives its hooks
//! /dev/null, so that "error executing hook (exit code: 1)" is all that a user
//! sees. What it would be told by is the runtime's: its log, which engines read
//! after a failure, and its standard error.
//!
//! Podman shows the log where that is one JSON value, and the runtime's standard
//! error where it is not (libpod `readConmonPipeData`, conmon `runtime stderr`):
//! our line before crun's makes it show the latter, which has both.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
        process::parent_id,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// Major and minor number of /dev/null.
const NULL: (u32, u32) = (1, 3);

/// Writes the line where the caller's caller looks, unless our own standard
/// error goes somewhere.
///
/// Failing to is no reason to fail: the container is refused with or without.
pub fn tell(line: &str) {
    if !is_null("/proc/self/fd/2") {
        return;
    }
    let parent = parent_id();
    let words = fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
    if let Some(log) = Log::of_command_line(&words) {
        append(&log.path, &log.line(line));
    }
    append(Path::new(&format!("/proc/{parent}/fd/2")), line);
}

fn is_null(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|meta| {
        let device = meta.rdev();
        let number = (rustix::fs::major(device), rustix::fs::minor(device));
        meta.file_type().is_char_device() && number == NULL
    })
}

/// To a file that is there, or to a pipe that nobody may be reading: without
/// waiting.
fn append(path: &Path, line: &str) {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) {
        // Nothing else is left to tell it to.
        drop(File::from(file).write_all(format!("{line}\n").as_bytes()));
    }
}

/// The runtime's `--log`, and whether it has lines of JSON.
#[derive(Debug, PartialEq, Eq)]
struct Log {
    path: PathBuf,
    is_json: bool,
}

impl Log {
    /// From the runtime's words, each ended by a zero byte. The options are runc's
    /// as well as crun's; crun may have a `file:` before the path.
    fn of_command_line(words: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        let value = |name: &str| {
            words.iter().enumerate().find_map(|(at, word)| {
                let rest = word.strip_prefix(name.as_bytes())?;
                match rest {
                    [] => words.get(at + 1).copied(),
                    [b'=', value @ ..] => Some(value),
                    _ => None,
                }
            })
        };
        let path = value("--log")?;
        let path = path.strip_prefix(b"file:").unwrap_or(path);
        // `journald:NAME` and `syslog:NAME` are no files.
        path.starts_with(b"/").then(|| Self {
            path: PathBuf::from(OsStr::from_bytes(path)),
            is_json: value("--log-format") == Some(b"json"),
        })
    }

    fn line(&self, text: &str) -> String {
        if self.is_json {
            serde_json::json!({ "level": "error", "msg": text }).to_string()
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_found_in_the_words_of_a_runtime() {
        let json = "/usr/bin/crun --log-format=json --log /run/x/oci-log create --bundle /b id";
        let text = "crun --systemd-cgroup --log=file:/run/log create id";
        for (line, path, is_json) in [(json, "/run/x/oci-log", true), (text, "/run/log", false)] {
            let words = line.replace(' ', "\0");
            let path = PathBuf::from(path);
            let log = Log::of_command_line(words.as_bytes());
            assert_eq!(log, Some(Log { path, is_json }), "{line}");
        }
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        for line in [
            "",
            "crun create id",
            "crun --log",
            "crun --log journald:crun create id",
            "crun --log-format json create id",
            "podman rm -f id",
        ] {
            let words = line.replace(' ', "\0");
            assert_eq!(Log::of_command_line(words.as_bytes()), None, "{line}");
        }
    }
}
