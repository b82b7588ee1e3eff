//! What is posted of a refusal: an Event of the API `v1`, which kubelets may
//! create as well. Knows no API server.

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
    jiff::Timestamp,
};

use super::gate::Key;
use crate::events::{Exec, Report, Session, Verdict, What};

/// Who reports.
pub(super) const COMPONENT: &str = "execblock";
/// Longest message that API servers take, in bytes.
const MESSAGE_MAX: usize = 1024;
/// Longest name of a reporter that they take, in bytes.
const INSTANCE_MAX: usize = 128;
/// Longest name of a pod or a namespace, in bytes.
const NAME_MAX: usize = 253;
/// Most of a name that is told, in bytes: no name pushes another out.
const QUOTED_MAX: usize = 256;

/// An Event that is to be posted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    pub(super) key: Key,
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Without the uid of the pod.
    pub(super) event: Event,
}

impl Notice {
    /// `None` for what is no refusal of a program in a pod.
    pub(super) fn of(report: &Report, node: &str) -> Option<Self> {
        let What::Exec(exec) = &report.what else {
            return None;
        };
        let owner = &report.owner;
        if !is_name(&owner.namespace) || !is_name(&owner.pod) {
            return None;
        }
        Some(Self {
            key: Key {
                container: owner.container.clone(),
                rule: exec.rule.clone(),
            },
            namespace: owner.namespace.clone(),
            pod: owner.pod.clone(),
            event: event(report, exec, node),
        })
    }
}

/// Whether a pod or a namespace can be called that. Names become parts of the path
/// of a request; those that can't be would lead it elsewhere.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NAME_MAX
        && name.bytes().next().is_some_and(plain)
        && name.bytes().next_back().is_some_and(plain)
        && name
            .bytes()
            .all(|byte| plain(byte) || b"-.".contains(&byte))
}

fn event(report: &Report, exec: &Exec, node: &str) -> Event {
    let owner = &report.owner;
    let time = report.time.parse().unwrap_or_else(|_| Timestamp::now());
    let container = Some(&owner.name).filter(|name| !name.is_empty());
    Event {
        metadata: ObjectMeta {
            // What is behind it is the API server's.
            generate_name: Some(format!("{}.", owner.pod)),
            namespace: Some(owner.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(owner.namespace.clone()),
            name: Some(owner.pod.clone()),
            field_path: container.map(|name| format!("spec.containers{{{name}}}")),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(reason(exec.verdict).to_owned()),
        action: Some("Exec".to_owned()),
        message: Some(message(exec)),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(cut(node, INSTANCE_MAX).to_owned()),
        event_time: Some(MicroTime(time)),
        // `kubectl get events` is sorted by these.
        first_timestamp: Some(Time(time)),
        last_timestamp: Some(Time(time)),
        count: Some(1),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(node.to_owned()),
        }),
        ..Event::default()
    }
}

fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Denied => "ExecDenied",
        Verdict::Killed => "ExecKilled",
        Verdict::Audited => "ExecAudited",
    }
}

fn message(exec: &Exec) -> String {
    let verdict = match exec.verdict {
        Verdict::Denied => "denied",
        Verdict::Killed => "killed",
        Verdict::Audited => "audited",
    };
    let origin = exec.origin.as_ref().map_or_else(String::new, |origin| {
        format!(" ({})", cut(&origin.to_string(), QUOTED_MAX))
    });
    let session = match exec.process.session {
        None => "",
        Some(Session::Entrypoint) => ", entrypoint",
        Some(Session::Exec) => ", exec session",
    };
    let message = format!(
        "{verdict} {}: rule {}{origin}, by {} under {}, uid {}{session}",
        quoted(&exec.matched),
        quoted(&exec.rule),
        quoted(&exec.process.program),
        quoted(&exec.process.parent_program),
        exec.process.uid,
    );
    cut(&message, MESSAGE_MAX).to_owned()
}

/// In quotes, with what would break a line escaped.
fn quoted(name: &str) -> String {
    let quoted = format!("{name:?}");
    match cut(&quoted, QUOTED_MAX) {
        whole if whole.len() == quoted.len() => quoted,
        part => format!("{part}\u{2026}\""),
    }
}

/// At most so many bytes of it.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
