//! The lines that the machine prints on its console and that `cargo xtask vm` reads.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Fail(String),
    Skip(String),
}

/// One line of the protocol. Text that came from elsewhere is made to fit one line.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    Plan(usize),
    Start(&'a str),
    End {
        name: &'a str,
        took: Duration,
        outcome: &'a Outcome,
    },
    Log(&'a str),
    Note(&'a str),
    Done,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("VMTEST ")?;
        match self {
            Self::Plan(cases) => write!(out, "plan {cases}"),
            Self::Start(name) => write!(out, "start {name}"),
            Self::End {
                name,
                took,
                outcome,
            } => match outcome {
                Outcome::Pass => write!(out, "pass {name} {}", took.as_millis()),
                Outcome::Fail(reason) => {
                    write!(out, "fail {name} {} {}", took.as_millis(), one_line(reason))
                }
                Outcome::Skip(reason) => write!(out, "skip {name} {}", one_line(reason)),
            },
            Self::Log(text) => write!(out, "log {}", one_line(text)),
            Self::Note(text) => write!(out, "note {}", one_line(text)),
            Self::Done => out.write_str("done"),
        }
    }
}

/// Line breaks become ` | `, other control characters their escapes.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' => line.push_str(" | "),
            '\t' => line.push(' '),
            other if other.is_control() => line.extend(other.escape_default()),
            other => line.push(other),
        }
    }
    line
}

/// Writes the line in one go, so that the kernel's messages do not fall into it.
pub(crate) fn emit(line: &Line<'_>) {
    write_stdout(&format!("{line}\n"));
}

/// A message from the process of a case to PID 1, on its standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Log(String),
    Note(String),
    Result(Outcome),
}

impl Message {
    /// Anything that is not a message is a detail of the case.
    pub(crate) fn parse(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "note" => Self::Note(rest.to_owned()),
            "log" => Self::Log(rest.to_owned()),
            "result-pass" => Self::Result(Outcome::Pass),
            "result-fail" => Self::Result(Outcome::Fail(rest.to_owned())),
            "result-skip" => Self::Result(Outcome::Skip(rest.to_owned())),
            _ => Self::Log(line.to_owned()),
        }
    }

    pub(crate) fn send(&self) {
        let line = match self {
            Self::Log(text) => format!("log {}\n", one_line(text)),
            Self::Note(text) => format!("note {}\n", one_line(text)),
            Self::Result(Outcome::Pass) => "result-pass\n".to_owned(),
            Self::Result(Outcome::Fail(reason)) => format!("result-fail {}\n", one_line(reason)),
            Self::Result(Outcome::Skip(reason)) => format!("result-skip {}\n", one_line(reason)),
        };
        write_stdout(&line);
    }
}

/// A detail that is shown when the case fails.
pub(crate) fn log(text: impl fmt::Display) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    for line in text.to_string().lines() {
        Message::Log(line.to_owned()).send();
    }
}

/// Leaves out what only the reader of a failed case wants.
pub(crate) fn without_log() {
    QUIET.store(true, Ordering::Relaxed);
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// A figure or transcript that is shown whatever the outcome.
pub(crate) fn note(text: impl fmt::Display) {
    for line in text.to_string().lines() {
        Message::Note(line.to_owned()).send();
    }
}

/// A measurement, as JSON, for `cargo xtask bench`.
pub(crate) fn figure(json: &serde_json::Value) {
    note(format_args!("figure {json}"));
}

/// With the console gone there is nobody left to tell.
pub(crate) fn write_stdout(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(outcome: &Outcome) -> String {
        Line::End {
            name: "lsm/direct",
            took: Duration::from_millis(1234),
            outcome,
        }
        .to_string()
    }

    #[test]
    fn lines_read_as_the_runner_expects() {
        assert_eq!(Line::Plan(3).to_string(), "VMTEST plan 3");
        assert_eq!(
            Line::Start("lsm/direct").to_string(),
            "VMTEST start lsm/direct"
        );
        assert_eq!(end(&Outcome::Pass), "VMTEST pass lsm/direct 1234");
        assert_eq!(
            end(&Outcome::Fail("two\nlines".into())),
            "VMTEST fail lsm/direct 1234 two | lines"
        );
        assert_eq!(
            end(&Outcome::Skip("no x32".into())),
            "VMTEST skip lsm/direct no x32"
        );
        assert_eq!(Line::Done.to_string(), "VMTEST done");
    }

    #[test]
    fn control_characters_do_not_reach_the_console() {
        assert_eq!(one_line("a\u{1b}[31mb\r\n"), "a\\u{1b}[31mb");
    }

    #[test]
    fn messages_survive_the_pipe() {
        assert_eq!(Message::parse("note 3 ms"), Message::Note("3 ms".into()));
        assert_eq!(
            Message::parse("result-pass"),
            Message::Result(Outcome::Pass)
        );
        assert_eq!(
            Message::parse("result-fail whoami ran"),
            Message::Result(Outcome::Fail("whoami ran".into()))
        );
        assert_eq!(
            Message::parse("thread 'main' panicked"),
            Message::Log("thread 'main' panicked".into())
        );
    }
}
