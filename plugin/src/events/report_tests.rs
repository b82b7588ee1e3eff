//! Tests of events as programs and people read them.

use std::time::Duration;

use plugin_common::{ARGUMENT_CAPACITY, COMM_CAPACITY, MECHANISM_LSM, NAME_CAPACITY};

use super::*;
use crate::events::line;

fn buffer<const N: usize>(text: &[u8]) -> [u8; N] {
    // Whatever is behind it must not be seen.
    let mut buffer = [b'#'; N];
    buffer[..text.len()].copy_from_slice(text);
    buffer
}

fn comm(text: &[u8]) -> [u8; COMM_CAPACITY] {
    let mut comm = [0; COMM_CAPACITY];
    comm[..text.len()].copy_from_slice(text);
    comm
}

fn len(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap()
}

fn event(requested: &[u8], resolved: &[u8]) -> Event {
    Event {
        time: 5,
        cgroup: 77,
        pid: 100,
        container_pid: 9,
        parent: 99,
        session: 98,
        uid: 0,
        policy: 1,
        rule: 1000,
        mechanism: MECHANISM_LSM,
        refused: 1,
        source: Source::Requested as u32,
        outside: 0,
        cut: 0,
        name_len: len(requested),
        requested_len: len(requested),
        resolved_len: len(resolved),
        argument_len: 2,
        comm: comm(b"sh"),
        parent_comm: comm(b"bash"),
        name: buffer::<NAME_CAPACITY>(requested),
        requested: buffer::<NAME_CAPACITY>(requested),
        resolved: buffer::<NAME_CAPACITY>(resolved),
        argument: buffer::<ARGUMENT_CAPACITY>(b"me"),
    }
}

fn named() -> Named {
    Named {
        owner: Owner {
            container: "0123456789abcdef0123456789abcdef".into(),
            name: "app".into(),
            engine: "containerd".into(),
            pod: "web".into(),
            namespace: "default".into(),
            image: "docker.io/library/busybox:1.36".into(),
        },
        init: 98,
        rule: Some((In::Deny, "who*".into(), Origin::Profile("base".into()))),
    }
}

fn report(event: &Event, named: Named) -> Report {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    Report::of_event(event, named, time)
}

fn plain(report: &Report) -> String {
    anstream::adapter::strip_str(&line(report)).to_string()
}

#[test]
fn a_refusal_in_both_forms() {
    let report = report(&event(b"/bin/whoami", b"busybox"), named());
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
    insta::assert_snapshot!(plain(&report));
    let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
}

#[test]
fn what_is_not_known_is_left_open() {
    let mut event = event(b"whoami", b"");
    (event.session, event.cut, event.outside) = (0, 1, 1);
    let report = report(&event, Named::default());
    let What::Exec(exec) = &report.what else {
        panic!("{report:?}")
    };
    assert_eq!((exec.process.session, exec.origin.as_ref()), (None, None));
    assert_eq!(exec.rule, "unknown rule 1000");
    assert!(exec.requested_cut && exec.process.outside);
    assert!(
        plain(&report).contains("outside of the cgroup of cgroup 77"),
        "{}",
        plain(&report)
    );
}

#[test]
fn a_session_that_is_not_the_first_process_is_an_exec() {
    let session = |session, init| {
        let mut event = event(b"x", b"x");
        event.session = session;
        let named = Named { init, ..named() };
        match report(&event, named).what {
            What::Exec(exec) => exec.process.session,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(session(98, 98), Some(Session::Entrypoint));
    assert_eq!(session(97, 98), Some(Session::Exec));
    assert_eq!(session(0, 98), None);
    assert_eq!(session(97, 0), None);
}

#[test]
fn verdicts_and_lists_by_number() {
    let exec = |change: fn(&mut Event)| {
        let mut event = event(b"x", b"x");
        change(&mut event);
        match report(&event, named()).what {
            What::Exec(exec) => (exec.verdict, exec.list, exec.rule),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(exec(|_| {}).0, Verdict::Denied);
    assert_eq!(exec(|event| event.refused = 0).0, Verdict::Audited);
    assert_eq!(
        exec(|event| event.mechanism = MECHANISM_SIGNAL).0,
        Verdict::Killed
    );
    let (_, list, rule) = exec(|event| event.rule = RULE_UNLISTED);
    assert_eq!(
        (list, rule.as_str()),
        (List::Allow, "not in the allow-list")
    );
    assert_eq!(exec(|event| event.rule = RULE_DRIFT).1, List::Drift);
}

#[test]
fn a_process_that_left_and_a_loss() {
    let mut moved = event(b"", b"");
    moved.rule = RULE_MOVED;
    moved.outside = 1;
    let moved = report(&moved, named());
    assert!(matches!(moved.what, What::Moved(_)));
    insta::assert_snapshot!(plain(&moved));
    let owner = named().owner;
    let lost = Report::of_loss(77, owner, 3, 40, SystemTime::UNIX_EPOCH);
    insta::assert_snapshot!(plain(&lost));
    insta::assert_snapshot!(serde_json::to_string(&lost).unwrap());
}

#[test]
fn no_name_forges_a_line() {
    let forged = b"a\nb\r\x1b[2J\xff\"\x7f\xe2\x80\xa8";
    let mut named = named();
    named.owner.name = "x\ny".into();
    named.owner.pod = "web\x1b[2J".into();
    named.owner.namespace = "n\r\u{9b}".into();
    named.rule = Some((In::Deny, "z\n".into(), Origin::Profile("p\n".into())));
    let mut event = event(forged, forged);
    event.comm = comm(b"s\nh");
    let mut report = report(&event, named);
    // Nor what somebody wrote into the journal.
    report.time = "now\n".into();
    if let What::Exec(exec) = &mut report.what {
        exec.mechanism = "\x1b[1mlsm".into();
    }
    // On a terminal, which obeys more than the ends of lines: all but our styles.
    let styles = ["0", "1", "2", "31", "33"].map(|style| format!("\x1b[{style}m"));
    let shown = styles[..]
        .iter()
        .fold(line(&report), |line, style| line.replace(style, ""));
    assert!(!shown.contains(char::is_control), "{shown:?}");
    let (text, json) = (plain(&report), serde_json::to_string(&report).unwrap());
    for line in [&text, &json] {
        assert!(!line.contains(['\n', '\r', '\x1b']), "{line:?}");
    }
    assert!(json.contains(r"\\xff"), "{json}");
}
