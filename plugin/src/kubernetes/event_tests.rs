//! Each part of an Event, and each limit that API servers put to one.

use serde_json::json;

use super::*;
use crate::kubernetes::tests::report;

fn posted(report: &Report) -> serde_json::Value {
    let notice = Notice::of(report, "node-1").unwrap();
    serde_json::to_value(notice.event).unwrap()
}

#[test]
fn a_refusal_is_told_with_its_pod_and_container() {
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "web-0.", "namespace": "shop"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "shop",
            "name": "web-0",
            "fieldPath": "spec.containers{app}",
        },
        "type": "Warning",
        "reason": "ExecDenied",
        "action": "Exec",
        "message": "denied \"/bin/whoami\": rule \"whoami\" (profile base), by \"sh\" under \
                    \"bash\", uid 1000, exec session",
        "reportingComponent": "execblock",
        "reportingInstance": "node-1",
        "eventTime": "2026-01-31T23:59:00.123456Z",
        "firstTimestamp": "2026-01-31T23:59:00Z",
        "lastTimestamp": "2026-01-31T23:59:00Z",
        "count": 1,
        "source": {"component": "execblock", "host": "node-1"},
    });
    assert_eq!(posted(&report("c0ffee", "whoami")), expected);
}

#[test]
fn each_verdict_has_its_reason() {
    for (verdict, word, reason) in [
        (Verdict::Denied, "denied", "ExecDenied"),
        (Verdict::Killed, "killed", "ExecKilled"),
        (Verdict::Audited, "audited", "ExecAudited"),
    ] {
        let mut report = report("c0ffee", "whoami");
        let What::Exec(exec) = &mut report.what else {
            panic!("it is no refusal");
        };
        exec.verdict = verdict;
        exec.origin = None;
        let event = posted(&report);
        assert_eq!(event["reason"], reason);
        let message = event["message"].as_str().unwrap();
        let begin = format!("{word} \"/bin/whoami\": rule \"whoami\", by");
        assert!(message.starts_with(&begin), "{message}");
    }
}

#[test]
fn what_is_not_of_a_pod_or_no_refusal_is_not_posted() {
    let node = "node-1";
    let good = report("c0ffee", "whoami");
    assert!(Notice::of(&good, node).is_some());
    for name in ["", "..", "a/b", "A", "-a", "a.", "a?b", &"a".repeat(254)] {
        let mut bad = good.clone();
        name.clone_into(&mut bad.owner.pod);
        assert_eq!(Notice::of(&bad, node), None, "{name}");
        let mut bad = good.clone();
        name.clone_into(&mut bad.owner.namespace);
        assert_eq!(Notice::of(&bad, node), None, "{name}");
    }
    let lost = Report {
        what: What::Lost { lost: 1, total: 1 },
        ..good
    };
    assert_eq!(Notice::of(&lost, node), None);
}

#[test]
fn no_name_is_too_long_or_breaks_a_line() {
    let mut report = report("c0ffee", &"\u{1b}r\n".repeat(200));
    report.owner.name.clear();
    let What::Exec(exec) = &mut report.what else {
        panic!("it is no refusal");
    };
    exec.matched = "\u{e9}".repeat(127);
    exec.process.program = "\u{7f}".repeat(15);
    exec.process.parent_program = "\u{7f}".repeat(15);
    let notice = Notice::of(&report, &"n".repeat(253)).unwrap();
    let message = notice.event.message.unwrap();
    assert!(message.len() <= MESSAGE_MAX, "{}", message.len());
    assert!(!message.contains(char::is_control), "{message}");
    // The end is there whatever the names are.
    assert!(message.ends_with("uid 1000, exec session"), "{message}");
    assert!(message.contains("\u{2026}\" (profile base)"), "{message}");
    assert_eq!(notice.event.reporting_instance.unwrap().len(), INSTANCE_MAX);
    assert_eq!(notice.event.involved_object.field_path, None);
}
