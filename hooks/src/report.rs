//! The reason why a container is refused, where its engine looks for it: standard
//! error, and the runtime's log.
//!
//! containerd's shim shows the last `error` of a log in JSON, by `level` and
//! `msg`, and wants a `time` that Go can read; without one it shows what was
//! printed. Docker shows what containerd does, Podman and conmon what was printed.
//! Source: `getLastRuntimeError` of containerd's shim for runc.

use std::{ffi::OsStr, fs, io, io::Write as _, os::unix::ffi::OsStrExt as _, time::SystemTime};

use serde_json::json;

use crate::args::Invocation;

/// Writes the reason to both.
pub fn refusal(invocation: &Invocation<'_>, reason: &str) {
    let reason = reason.replace('\n', " ");
    complain(&reason);
    if let Err(error) = to_log(invocation, &format!("execblock-runc: {reason}")) {
        complain(&error);
    }
}

/// Writes one line to the log of a runtime that has one, or says why not.
pub(crate) fn to_log(invocation: &Invocation<'_>, reason: &str) -> Result<(), String> {
    let Some(log) = invocation.log.and_then(file) else {
        return Ok(());
    };
    append(log, &line(reason, invocation.log_json, SystemTime::now()))
        .map_err(|error| format!("{}: {error}", log.to_string_lossy()))
}

/// One line on standard error.
#[expect(clippy::print_stderr, reason = "where engines look for reasons")]
pub fn complain(text: &str) {
    eprintln!("execblock-runc: {text}");
}

/// crun's logs have a kind: `file:` is the only one that is a file.
fn file(log: &OsStr) -> Option<&OsStr> {
    let bytes = log.as_bytes();
    let path = bytes.strip_prefix(b"file:").unwrap_or(bytes);
    let other = bytes.starts_with(b"journald:") || bytes.starts_with(b"syslog:");
    (!other && !path.is_empty()).then(|| OsStr::from_bytes(path))
}

fn line(reason: &str, json: bool, now: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(now);
    if json {
        let entry = json!({ "level": "error", "msg": reason, "time": time.to_string() });
        format!("{entry}\n")
    } else {
        format!("time=\"{time}\" level=error msg={}\n", json!(reason))
    }
}

/// As the runtimes open it.
fn append(log: &OsStr, line: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(log)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_formats() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(
            line("execblock-runc: no \"x\"", true, now),
            "{\"level\":\"error\",\"msg\":\"execblock-runc: no \\\"x\\\"\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(
            line("execblock-runc: no \"x\"", false, now),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"execblock-runc: no \\\"x\\\"\"\n"
        );
    }

    #[test]
    fn only_files_are_written_to() {
        for (log, path) in [
            ("/l", Some("/l")),
            ("file:/l", Some("/l")),
            ("journald:x", None),
            ("syslog:", None),
            ("", None),
        ] {
            assert_eq!(file(OsStr::new(log)), path.map(OsStr::new), "{log}");
        }
    }
}
