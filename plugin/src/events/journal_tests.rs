//! Tests of the journal.

use std::thread;

use execblock::record::Owner;

use super::*;
use crate::events::What;

fn report(number: u64) -> Report {
    Report {
        time: "2026-01-31T23:59:00.000000000Z".into(),
        what: What::Lost {
            lost: 1,
            total: number,
        },
        owner: Owner {
            container: "abc".into(),
            ..Owner::default()
        },
        cgroup: 7,
    }
}

/// Numbers of what is read.
fn numbers(tail: &mut Tail) -> Vec<u64> {
    let number = |line: &String| match serde_json::from_str::<Report>(line).unwrap().what {
        What::Lost { total, .. } => total,
        other => panic!("{other:?}"),
    };
    tail.lines().unwrap().iter().map(number).collect()
}

/// A directory as ours is: its owner's alone.
fn run_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let mut builder = tempfile::Builder::new();
    let builder = builder.permissions(fs::Permissions::from_mode(0o700));
    builder.tempdir().unwrap()
}

#[test]
fn what_is_written_is_read_once_and_in_order() {
    let dir = run_dir();
    let mut early = Tail::from_start(dir.path()).unwrap();
    let mut journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    journal.write(&report(1)).unwrap();
    let mut late = Tail::from_now(dir.path()).unwrap();
    journal.write(&report(2)).unwrap();
    assert_eq!(numbers(&mut early), [1, 2]);
    assert_eq!(numbers(&mut late), [2]);
    assert!(numbers(&mut early).is_empty());
    journal.write(&report(3)).unwrap();
    assert_eq!(numbers(&mut early), [3]);
    assert_eq!(
        numbers(&mut Tail::from_start(dir.path()).unwrap()),
        [1, 2, 3]
    );
}

#[test]
fn a_full_half_is_put_aside_and_the_one_before_goes() {
    let dir = run_dir();
    let line = serde_json::to_vec(&report(1)).unwrap().len() as u64 + 1;
    // Two lines a half.
    let mut journal = Journal::wait(dir.path(), 4 * line + 2).unwrap();
    let mut tail = Tail::from_start(dir.path()).unwrap();
    for number in 1..=2 {
        journal.write(&report(number)).unwrap();
    }
    assert_eq!(numbers(&mut tail), [1, 2]);
    journal.write(&report(3)).unwrap();
    assert_eq!(numbers(&mut tail), [3]);
    journal.write(&report(4)).unwrap();
    journal.write(&report(5)).unwrap();
    assert_eq!(numbers(&mut tail), [4, 5]);
    assert_eq!(
        numbers(&mut Tail::from_start(dir.path()).unwrap()),
        [3, 4, 5]
    );
    // The size is kept by the next writer.
    drop(journal);
    let mut journal = Journal::wait(dir.path(), 4 * line + 2).unwrap();
    journal.write(&report(6)).unwrap();
    journal.write(&report(7)).unwrap();
    assert_eq!(
        numbers(&mut Tail::from_start(dir.path()).unwrap()),
        [5, 6, 7]
    );
}

#[test]
fn a_line_that_was_cut_short_costs_itself_alone() {
    let dir = run_dir();
    let mut journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    journal.write(&report(1)).unwrap();
    journal.file.write_all(b"{\"time\":").unwrap();
    drop(journal);
    let mut tail = Tail::from_start(dir.path()).unwrap();
    assert_eq!(tail.lines().unwrap().len(), 1);
    let mut journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    journal.write(&report(2)).unwrap();
    let lines = tail.lines().unwrap();
    assert_eq!(lines[0], "{\"time\":");
    assert!(serde_json::from_str::<Report>(&lines[1]).is_ok());
}

#[test]
fn one_writes_at_a_time_and_the_next_takes_over() {
    let dir = run_dir();
    let first = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    assert!(
        Journal::unless_held(dir.path(), BYTES_DEFAULT)
            .unwrap()
            .is_none()
    );
    let path = dir.path().to_owned();
    let second = thread::spawn(move || Journal::wait(&path, BYTES_DEFAULT).map(drop));
    drop(first);
    second.join().unwrap().unwrap();
    assert!(
        Journal::unless_held(dir.path(), BYTES_DEFAULT)
            .unwrap()
            .is_some()
    );
}

#[test]
fn lost_events_that_were_told_are_not_told_by_the_next_writer() {
    let dir = run_dir();
    let journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    assert!(journal.told().is_empty());
    journal.set_told(&HashMap::from([(7, 3)])).unwrap();
    drop(journal);
    let journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    assert_eq!(journal.told(), HashMap::from([(7, 3)]));
}

#[test]
fn others_may_not_look_at_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = run_dir();
    let mut journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    journal.write(&report(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("events")), 0o700);
    assert_eq!(mode(&dir.path().join("events").join(CURRENT)), 0o600);
}

#[test]
fn its_files_are_the_owners_alone_and_no_links() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let dir = run_dir();
    let mut journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    journal.write(&report(1)).unwrap();
    journal.set_told(&HashMap::from([(7, 1)])).unwrap();
    drop(journal);
    let events = dir.path().join("events");
    let victim = dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    for name in [CURRENT, TOLD, "lock"] {
        let path = events.join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
    }
    assert!(Journal::wait(dir.path(), BYTES_DEFAULT).is_err(), "lock");
    fs::remove_file(events.join("lock")).unwrap();
    assert!(Journal::wait(dir.path(), BYTES_DEFAULT).is_err(), "journal");
    assert!(Tail::from_start(dir.path()).is_err(), "read");
    fs::remove_file(events.join(CURRENT)).unwrap();
    let journal = Journal::wait(dir.path(), BYTES_DEFAULT).unwrap();
    // The new one takes the link's place.
    journal.set_told(&HashMap::new()).unwrap();
    assert!(!events.join(TOLD).is_symlink());
    symlink(&victim, events.join(TOLD).with_extension("new")).unwrap();
    assert!(journal.set_told(&HashMap::new()).is_err(), "told");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}
