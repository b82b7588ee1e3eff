//! Events on their way: from the kernel's bytes to lines for programs and for
//! people, the journal's lines read back, and the records that name them.

use std::{
    cell::RefCell,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use execblock::{
    order::In,
    origin::Origin,
    record::{Owner, Record},
    records::Records,
};
use plugin_common::Event;

use crate::{bytes, scratch};

#[allow(dead_code, reason = "the command uses the rest")]
mod shared;

use shared::{
    Report,
    journal::{Journal, Tail},
    names::Names,
    report::Named,
    text,
};

/// Reads the bytes behind the first, which says as what.
pub fn run(mut data: &[u8]) {
    match bytes::byte(&mut data) {
        Some(b'e') => event(data),
        Some(b'j') => journal(data),
        Some(b'l') => line(data),
        Some(b'r') => record(data),
        _ => {}
    }
}

/// A record of the ring buffer, and behind it what user space knows.
fn event(mut data: &[u8]) {
    let event = of_kernel(bytes::take(&mut data, size_of::<Event>()));
    let mut text = || bytes::text(&mut data);
    let owner = Owner {
        container: text(),
        name: text(),
        engine: text(),
        pod: text(),
        namespace: text(),
        image: text(),
    };
    let (rule, from) = (text(), text());
    let origin = match from.split_at_checked(1) {
        None => Origin::Annotation,
        Some(("c", _)) => Origin::CommandLine,
        Some(("p", name)) => Origin::Profile(name.to_owned()),
        Some((_, name)) => Origin::NodeDefault(name.to_owned()),
    };
    let list = if from.len() % 2 == 0 {
        In::Deny
    } else {
        In::Allow
    };
    let named = Named {
        owner: owner.clone(),
        init: event.parent,
        rule: (!rule.is_empty()).then_some((list, rule, origin)),
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(event.time);
    let report = Report::of_event(&event, named, time);
    told(&report);
    told(&Report::of_loss(
        event.cgroup,
        owner,
        event.time,
        event.cgroup,
        time,
    ));
    // Whatever the kernel says, its clock is not read wrong.
    let _time = execblock::clock::time_of_day(event.time);
}

/// As the ring buffer's reader does it; zeros where there are too few bytes.
fn of_kernel(piece: &[u8]) -> Event {
    let mut raw = [0; size_of::<Event>()];
    raw[..piece.len()].copy_from_slice(piece);
    // SAFETY: as long as an Event, which is valid for all bytes; read unaligned.
    unsafe { raw.as_ptr().cast::<Event>().read_unaligned() }
}

/// A report in all its forms.
fn told(report: &Report) {
    let json = serde_json::to_string(report).expect("a report is JSON");
    assert!(!json.contains(|c: char| c < ' '), "{json:?}");
    let read: Report = serde_json::from_str(&json).expect("what we wrote is understood");
    assert_eq!(&read, report);
    shown(report);
}

/// The line for people has no end, and nothing that a terminal would obey but the
/// styles of our own.
fn shown(report: &Report) {
    let styled = text::line(report);
    let mut plain = styled.clone();
    for style in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m"] {
        plain = plain.replace(style, "");
    }
    assert!(!plain.contains(char::is_control), "{plain:?}");
    let stripped = anstream::adapter::strip_str(&styled).to_string();
    assert_eq!(stripped, plain);
}

/// A line of the journal, whoever wrote it.
fn line(data: &[u8]) {
    if let Ok(report) = serde_json::from_slice::<Report>(data) {
        told(&report);
    }
}

thread_local! {
    /// Used again: to close it takes longer than all the rest.
    static TAIL: RefCell<Option<Tail>> = const { RefCell::new(None) };
}

/// A journal that has these bytes in it, and goes on.
fn journal(data: &[u8]) {
    TAIL.with_borrow_mut(|tail| {
        let dir = scratch::path("x").with_file_name("");
        let tail = tail.get_or_insert_with(|| Tail::from_start(&dir).expect("a directory"));
        read_and_write(tail, &dir, data);
    });
}

fn read_and_write(tail: &mut Tail, dir: &Path, data: &[u8]) {
    let file = scratch::path("events/journal.jsonl");
    // Put aside, as a journal that is full is: the tail goes on with the new one.
    fs::remove_file(&file).ok();
    fs::write(&file, data).expect("a file");
    scratch::write("events/lost.json", data);
    let before = tail.lines().expect("it can be read");
    assert_eq!(before.len(), data.split(|byte| *byte == b'\n').count() - 1);
    assert!(before.iter().all(|line| !line.contains('\n')));
    let journal = Journal::unless_held(dir, 64 << 10).expect("it can be written");
    let mut journal = journal.expect("nobody else writes");
    let told = journal.told();
    journal.set_told(&told).expect("it can be written");
    assert_eq!(journal.told(), told);
    let report = Report::of_loss(7, Owner::default(), 1, 1, SystemTime::UNIX_EPOCH);
    journal.write(&report).expect("it can be written");
    // What was cut short costs no line behind it.
    let after = tail.lines().expect("it can be read");
    let last = after.last().expect("what was just written");
    assert_eq!(serde_json::from_str(last).ok(), Some(report));
}

/// The record of a container.
fn record(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(data) else {
        return;
    };
    let json = serde_json::to_vec_pretty(&record).expect("a record is JSON");
    let read: Record = serde_json::from_slice(&json).expect("what we wrote is understood");
    assert_eq!(read, record);
    let (spec, orders) = (record.spec(), record.orders());
    for error in [spec.as_ref().err(), orders.as_ref().err()]
        .into_iter()
        .flatten()
    {
        let container = &record.owner.container;
        let text = error.to_string().replace(container.as_str(), "");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    if let (Ok(spec), Ok(orders)) = (&spec, &orders) {
        let now = execblock::clock::now();
        let lines = orders.lines(spec.as_ref(), now);
        let rules = orders.rules(spec.as_ref(), now);
        assert!(lines.len() >= rules.deny.len().max(rules.allow.len()));
        if let Some(spec) = spec {
            assert!(spec.deny.len() <= record.deny.len());
            assert!(spec.allow.len() <= record.allow.len());
        }
    }
    named(&record);
}

/// The record kept, and found by the cgroup of an event.
fn named(record: &Record) {
    let dir = scratch::path("records/x").with_file_name("");
    fs::remove_dir_all(dir.join("containers")).ok();
    let records = Records::below(&dir);
    // An id that makes no file's name is refused.
    if records.write(record).is_err() {
        return;
    }
    assert_eq!(records.all().as_slice(), std::slice::from_ref(record));
    let mut known = Names::new(records);
    let named = known.of(record.cgroup, plugin_common::RULE_FIRST);
    assert_eq!(named.owner, record.owner);
    assert_eq!(named.init, record.init);
    let rules = record.spec().ok().flatten().into_iter();
    for rule in rules.flat_map(|spec| spec.deny) {
        let id = execblock::policy::rule_id(&rule);
        if let Some((_, text, origin)) = known.of(record.cgroup, id).rule {
            let owner = record.owner.clone();
            let by_rule = Named {
                owner,
                init: 0,
                rule: Some((In::Deny, text, origin)),
            };
            let event = Event {
                rule: id,
                ..of_kernel(&[])
            };
            told(&Report::of_event(&event, by_rule, SystemTime::UNIX_EPOCH));
        }
    }
}
