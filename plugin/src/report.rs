//! Refusals, from the ring buffer to the log.

use std::sync::mpsc::Sender;

use execblock::{
    kernel::{Events, Mechanism},
    record::Owner,
};
use plugin_common::RULE_MOVED;
use rustix::event::{PollFd, PollFlags, poll};

use crate::daemon::Event;

/// Hands events to the daemon as they come; ends when it does. For a thread of
/// its own: it waits in poll(2).
pub(crate) fn forward(mut events: Events, daemon: &Sender<Event>) {
    loop {
        while let Some(event) = events.take() {
            if daemon.send(Event::Refusal(Box::new(event))).is_err() {
                return;
            }
        }
        let mut ready = [PollFd::new(&events, PollFlags::IN)];
        if let Err(error) = rustix::io::retry_on_intr(|| poll(&mut ready, None)) {
            log::error!("refusals are no longer logged: {error}");
            return;
        }
    }
}

/// Logs one. `rule` is as the user wrote it.
pub(crate) fn refusal(event: &plugin_common::Event, owner: Option<&Owner>, rule: &str) {
    let mechanism = Mechanism::from_number(event.mechanism);
    let verdict = match (event.refused, mechanism) {
        (0, _) => "audited",
        (_, Some(Mechanism::Signal)) => "killed",
        _ => "denied",
    };
    let who = owner.map_or_else(|| format!("cgroup {}", event.cgroup), Owner::describe);
    if event.rule == RULE_MOVED {
        log::warn!(
            "a process left the cgroup of {who}, and stays under its rules (pid {}, uid {}, {})",
            event.pid,
            event.uid,
            text(&event.comm),
        );
        return;
    }
    let place = if event.outside == 0 {
        "in"
    } else {
        "outside of the cgroup of"
    };
    log::info!(
        "{verdict} {} {place} {who} ({}, rule {rule:?}, pid {}, uid {}, by {})",
        text(&event.name),
        mechanism.map_or("unknown", Mechanism::name),
        event.pid,
        event.uid,
        text(&event.comm),
    );
}

/// A name from the kernel as one word: quoted, so that it can't forge a line.
fn text(bytes: &[u8]) -> String {
    let used = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_line() {
        assert_eq!(text(b"whoami\0\0\0"), "\"whoami\"");
        assert_eq!(text(b"a\nb\x1b[2J\xff\0"), "\"a\\nb\\u{1b}[2J\u{fffd}\"");
    }
}
