//! Tells the reason of a refusal to whoever started the runtime that calls the
//! hook.
//!
//! runc puts the hook's standard error into its own error. crun gives its hooks
//! /dev/null, so that "error executing hook (exit code: 1)" is all that a user
//! sees. What engines read after a failure is the runtime's: its log, and its
//! standard error.
//!
//! Podman shows the log where that is one JSON value, and the runtime's standard
//! error where it is not (libpod `readConmonPipeData`, conmon `runtime stderr`):
//! our line before crun's makes it show the latter, which has both.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
        process::parent_id,
    },
};

use rustix::fs::{Mode, OFlags};

use crate::{args::Invocation, report};

/// Major and minor number of /dev/null.
const NULL: (u32, u32) = (1, 3);

/// Writes the line where the caller's caller looks, unless our own standard error
/// goes somewhere. Where that fails nothing is left to tell it to, and the
/// container is refused all the same.
pub fn tell(line: &str) {
    if !is_null("/proc/self/fd/2") {
        return;
    }
    let parent = parent_id();
    let words = words(&fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default());
    let runtime = Invocation::parse(words.get(1..).unwrap_or_default());
    drop(report::to_log(&runtime, line));
    // A pipe that nobody may be reading: without waiting.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stderr = format!("/proc/{parent}/fd/2");
    if let Ok(stderr) = rustix::fs::open(stderr, flags, Mode::empty()) {
        drop(File::from(stderr).write_all(format!("{line}\n").as_bytes()));
    }
}

fn is_null(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|meta| {
        let device = meta.rdev();
        let number = (rustix::fs::major(device), rustix::fs::minor(device));
        meta.file_type().is_char_device() && number == NULL
    })
}

/// Each is ended by a zero byte.
fn words(command_line: &[u8]) -> Vec<OsString> {
    let words = command_line.strip_suffix(&[0]).unwrap_or(command_line);
    words
        .split(|byte| *byte == 0)
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_runtime_is_found_in_its_command_line() {
        let line = b"/usr/bin/crun\0--log-format=json\0--log\0/run/log\0create\0--bundle\0/b\0id\0";
        let words = words(line);
        let runtime = Invocation::parse(&words[1..]);
        assert_eq!(runtime.log, Some(OsStr::new("/run/log")));
        assert!(runtime.log_json);
    }

    #[test]
    fn the_device_is_told_from_a_file() {
        assert!(is_null("/dev/null"));
        assert!(!is_null("/dev/zero") && !is_null("/proc/self/exe") && !is_null("/none"));
    }
}
