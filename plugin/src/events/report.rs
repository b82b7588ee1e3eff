//! One event as programs read it: a JSON object on a line. docs/events.md is its
//! description.

use std::{fmt::Write as _, time::SystemTime};

use execblock::{
    kernel::Mechanism,
    order::{In, Origin},
    record::Owner,
};
use plugin_common::{Event, MECHANISM_SIGNAL, RULE_DRIFT, RULE_MOVED, RULE_UNLISTED, Source};
use serde::{Deserialize, Serialize};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// When: RFC 3339 in UTC, nanoseconds.
    pub(crate) time: String,
    #[serde(flatten)]
    pub(crate) what: What,
    /// Whose; empty names where that is not known any more.
    #[serde(flatten)]
    pub(crate) owner: Owner,
    /// The bound cgroup.
    pub(crate) cgroup: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum What {
    /// A program was refused, or audited.
    Exec(Box<Exec>),
    /// A process left its cgroup, and stays under its rules.
    Moved(Process),
    /// Events that there was no room for.
    Lost {
        /// Since this was told last.
        lost: u64,
        /// Since the container was bound.
        total: u64,
    },
}

/// A program that was refused or audited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exec {
    pub(crate) verdict: Verdict,
    /// What refused it.
    pub(crate) mechanism: String,
    /// The rule as its author wrote it; or what it was refused for.
    pub(crate) rule: String,
    /// The list that has it.
    pub(crate) list: List,
    /// Where it comes from; `None` where no rule was written for it, or that is
    /// not known any more.
    pub(crate) origin: Option<Origin>,
    /// The name that the rule was found by.
    pub(crate) matched: String,
    /// What that name is.
    pub(crate) matched_by: Matched,
    /// The string given to exec; empty where a file was mapped.
    pub(crate) requested: String,
    /// Whether that was longer than the 255 bytes that are told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) requested_cut: bool,
    /// Name of the file, after symlinks; empty where it was not known yet.
    pub(crate) resolved: String,
    /// Its first argument, at most 127 bytes.
    pub(crate) argv0: String,
    #[serde(flatten)]
    pub(crate) process: Process,
}

/// The process that called exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// In the initial pid namespace.
    pub(crate) pid: u32,
    /// In its own pid namespace; 0 where that can't be told.
    pub(crate) container_pid: u32,
    /// Its command name.
    pub(crate) program: String,
    /// Its parent, in the initial pid namespace.
    pub(crate) parent_pid: u32,
    /// Its parent's command name.
    pub(crate) parent_program: String,
    /// Real user id in the initial user namespace.
    pub(crate) uid: u32,
    /// How it came into the container; `None` where that can't be told.
    pub(crate) session: Option<Session>,
    /// First process of its session, in the initial pid namespace; 0 as above.
    pub(crate) session_pid: u32,
    /// Whether it had left the bound cgroup.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) outside: bool,
}

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// EPERM.
    Denied,
    /// SIGKILL before its first instruction.
    Killed,
    /// It ran.
    Audited,
}

/// The list that a rule is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum List {
    /// It is denied.
    Deny,
    /// The allow-list has no item for it.
    Allow,
    /// It did not come with the image.
    Drift,
}

/// By which of its names a program was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Matched {
    /// The string given to exec, or a script's interpreter as it is written there.
    Requested,
    /// The file.
    Resolved,
    /// The first argument, or the applet of a multi-call binary.
    Applet,
    /// A file mapped executable.
    Mapped,
    /// The program that the dynamic loader was given.
    Loaded,
}

/// How a process came into its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Session {
    /// It descends from the container's first process, or lost its parent.
    Entrypoint,
    /// It came in later: `exec` of an engine, nsenter.
    Exec,
}

/// What user space knows beside the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) owner: Owner,
    /// The container's first process; 0 where it is not known.
    pub(crate) init: u32,
    /// The rule of the event.
    pub(crate) rule: Option<(In, String, Origin)>,
}

impl Report {
    /// An event as the kernel sent it.
    pub(crate) fn of_event(event: &Event, named: Named, time: SystemTime) -> Self {
        let process = process(event, named.init);
        let what = if event.rule == RULE_MOVED {
            What::Moved(process)
        } else {
            What::Exec(Box::new(exec(event, named.rule, process)))
        };
        Self {
            time: rfc3339(time),
            what,
            owner: named.owner,
            cgroup: event.cgroup,
        }
    }

    /// Events that were lost.
    pub(crate) fn of_loss(
        cgroup: u64,
        owner: Owner,
        lost: u64,
        total: u64,
        time: SystemTime,
    ) -> Self {
        Self {
            time: rfc3339(time),
            what: What::Lost { lost, total },
            owner,
            cgroup,
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

fn exec(event: &Event, rule: Option<(In, String, Origin)>, process: Process) -> Exec {
    let verdict = match (event.refused, event.mechanism) {
        (0, _) => Verdict::Audited,
        (_, MECHANISM_SIGNAL) => Verdict::Killed,
        _ => Verdict::Denied,
    };
    let of_reserved = match event.rule {
        RULE_UNLISTED => List::Allow,
        RULE_DRIFT => List::Drift,
        _ => List::Deny,
    };
    let (list, text, origin) = match (execblock::policy::reserved(event.rule), rule) {
        (Some(text), _) => (of_reserved, text.to_owned(), None),
        (None, Some((In::Deny, rule, origin))) => (List::Deny, rule, Some(origin)),
        (None, Some((In::Allow, rule, origin))) => (List::Allow, rule, Some(origin)),
        (None, None) => (List::Deny, format!("unknown rule {}", event.rule), None),
    };
    let mechanism = Mechanism::from_number(event.mechanism);
    Exec {
        verdict,
        mechanism: mechanism.map_or("unknown", Mechanism::name).to_owned(),
        rule: text,
        list,
        origin,
        matched: string(&event.name, event.name_len),
        matched_by: matched_by(event.source),
        requested: string(&event.requested, event.requested_len),
        requested_cut: event.cut != 0,
        resolved: string(&event.resolved, event.resolved_len),
        argv0: string(&event.argument, event.argument_len),
        process,
    }
}

fn matched_by(source: u32) -> Matched {
    let known = Source::ALL
        .into_iter()
        .find(|known| *known as u32 == source);
    match known {
        None | Some(Source::Requested) => Matched::Requested,
        Some(Source::Resolved) => Matched::Resolved,
        Some(Source::Applet) => Matched::Applet,
        Some(Source::Mapped) => Matched::Mapped,
        Some(Source::Loaded) => Matched::Loaded,
    }
}

fn process(event: &Event, init: u32) -> Process {
    Process {
        pid: event.pid,
        container_pid: event.container_pid,
        program: word(&event.comm),
        parent_pid: event.parent,
        parent_program: word(&event.parent_comm),
        uid: event.uid,
        session: match event.session {
            0 => None,
            // Of a container whose first process is not known that can't be told.
            _ if init == 0 => None,
            session if session == init => Some(Session::Entrypoint),
            _ => Some(Session::Exec),
        },
        session_pid: event.session,
        outside: event.outside != 0,
    }
}

/// Bytes of a buffer that are used.
fn string(buffer: &[u8], len: u32) -> String {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    lossless(buffer.get(..len).unwrap_or(buffer))
}

/// Bytes up to the first zero.
fn word(buffer: &[u8]) -> String {
    lossless(buffer.split(|&byte| byte == 0).next().unwrap_or_default())
}

/// Text as it is; what is no UTF-8 as `\xff`.
fn lossless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _written = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
