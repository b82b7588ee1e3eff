//! One event as people read it: a line, coloured on a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::report::{Exec, Process, Report, Session, Verdict, What};

const TIME: Style = Style::new().dimmed();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default();
const NAME: Style = Style::new().bold();

/// The line without its end. Names are quoted, so that none can forge a line; the
/// styles are stripped by whoever writes to no terminal.
pub(crate) fn line(report: &Report) -> String {
    let time = plain(&report.time);
    format!("{TIME}{time}{TIME:#} {}", sentence(report))
}

/// The same for a log, which has times of its own.
pub(super) fn sentence(report: &Report) -> String {
    let who = report.owner.describe_or(report.cgroup);
    match &report.what {
        What::Exec(exec) => self::exec(exec, &who),
        What::Moved(process) => format!(
            "{ODD}moved{ODD:#}   a process left the cgroup of {who} and stays under its rules{}",
            self::process(process)
        ),
        What::Lost { lost, total } => {
            format!("{ODD}lost{ODD:#}    {lost} events of {who}, {total} since it was bound")
        }
    }
}

/// What is not quoted. The journal is root's, but what reads it need not trust it.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn exec(exec: &Exec, who: &str) -> String {
    let (style, verdict) = match exec.verdict {
        Verdict::Denied => (BAD, "denied"),
        Verdict::Killed => (BAD, "killed"),
        Verdict::Audited => (ODD, "audited"),
    };
    let place = if exec.process.outside {
        "outside of the cgroup of"
    } else {
        "in"
    };
    let from = exec.origin.as_ref();
    let from = from.map_or_else(String::new, |origin| plain(&format!(" ({origin})")));
    let mut line = format!(
        "{style}{verdict:<7}{style:#} {NAME}{:?}{NAME:#} {place} {who}: rule {:?}{from}",
        exec.matched, exec.rule,
    );
    let names = [
        ("requested", &exec.requested),
        ("file", &exec.resolved),
        ("argv0", &exec.argv0),
    ];
    for (what, name) in names {
        if !name.is_empty() && *name != exec.matched {
            let _written = write!(line, ", {what} {name:?}");
        }
    }
    line + &format!(", {}", plain(&exec.mechanism)) + &process(&exec.process)
}

fn process(process: &Process) -> String {
    let mut text = format!(", by {:?} pid {}", process.program, process.pid);
    if process.container_pid != 0 && process.container_pid != process.pid {
        let _written = write!(text, " ({} inside)", process.container_pid);
    }
    let session = match process.session {
        None => "",
        Some(Session::Entrypoint) => ", entrypoint",
        Some(Session::Exec) => ", exec session",
    };
    let _written = write!(
        text,
        " under {:?}, uid {}{session}",
        process.parent_program, process.uid
    );
    text
}
