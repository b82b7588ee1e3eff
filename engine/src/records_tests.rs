//! Tests of the directory of records.

use super::*;
use crate::owner::Owner;

fn record(container: &str) -> Record {
    Record {
        owner: Owner {
            container: container.to_owned(),
            ..Owner::default()
        },
        cgroup: 77,
        mode: "enforce".into(),
        ..Record::default()
    }
}

fn empty() -> (tempfile::TempDir, Records) {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::below(dir.path());
    (dir, records)
}

#[test]
fn a_record_comes_back_until_it_is_removed() {
    let (_dir, records) = empty();
    assert_eq!(records.read("abc", 77).unwrap(), None);
    records.write(&record("abc")).unwrap();
    assert_eq!(records.read("abc", 77).unwrap(), Some(record("abc")));
    assert_eq!(records.all(), [record("abc")]);
    records.remove("abc", 77).unwrap();
    records.remove("abc", 77).unwrap();
    assert_eq!(records.all(), []);
}

#[test]
fn two_containers_of_one_id_have_a_record_each() {
    let (_dir, records) = empty();
    let other = Record {
        cgroup: 78,
        ..record("a.b")
    };
    for record in [&record("a.b"), &other, &record("a")] {
        records.write(record).unwrap();
    }
    assert_eq!(records.of_container("a.b").unwrap().len(), 2);
    assert_eq!(records.of_cgroup(78).unwrap(), Some(other.clone()));
    assert_eq!(records.of_cgroup(7).unwrap(), None);
    records
        .remove(&other.owner.container, other.cgroup)
        .unwrap();
    assert_eq!(records.of_container("a.b").unwrap(), [record("a.b")]);
}

#[test]
fn an_id_never_leaves_the_directory() {
    let (_dir, records) = empty();
    for id in ["", "..", ".x", "a/b", "a\0b", "ü", &"a".repeat(129)] {
        assert!(
            matches!(records.write(&record(id)), Err(RecordError::Id(_))),
            "{id:?}"
        );
    }
}

#[test]
fn a_record_is_the_owners_alone_and_goes_through_no_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (dir, records) = empty();
    records.write(&record("abc")).unwrap();
    let path = dir.path().join("containers/abc/77.json");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let victim = dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, path.with_extension("new")).unwrap();
    let error = records.write(&record("abc")).unwrap_err().to_string();
    assert!(error.contains("abc/77.new"), "{error}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(records.read("abc", 77).unwrap().is_some());
}

#[test]
fn a_record_that_was_put_away_is_found_for_a_while() {
    let (dir, records) = empty();
    records.write(&record("abc")).unwrap();
    assert_eq!(records.of_gone_cgroup(77).unwrap(), None);
    records.remove("abc", 77).unwrap();
    assert_eq!(records.of_gone_cgroup(77).unwrap(), Some(record("abc")));
    let gone = dir.path().join("gone");
    let minute = clock::now() / nanoseconds(TOGETHER);
    forget_old(&gone, minute + 10);
    assert!(records.of_gone_cgroup(77).unwrap().is_some());
    forget_old(&gone, minute + 12);
    assert_eq!(records.of_gone_cgroup(77).unwrap(), None);
}

#[test]
fn nothing_is_left_of_a_container_but_what_was_put_away() {
    let (dir, records) = empty();
    records.write(&record("abc")).unwrap();
    let of_container = dir.path().join("containers/abc");
    fs::write(of_container.join("78.new"), "{").unwrap();
    records.remove("abc", 77).unwrap();
    assert!(of_container.exists());
    assert_eq!(records.tidied(), []);
    assert!(!of_container.exists());
    records.write(&record("abc")).unwrap();
    fs::write(of_container.join("78.new"), "{").unwrap();
    assert_eq!(records.tidied(), [("abc".to_owned(), 77)]);
    assert!(!of_container.join("78.new").exists());
    records.remove("abc", 77).unwrap();
    assert!(!of_container.exists());
}

#[test]
fn a_record_of_a_version_without_directories_is_taken_over() {
    let (dir, records) = empty();
    records.write(&record("a.b")).unwrap();
    let of_container = dir.path().join("containers/a.b");
    fs::rename(
        of_container.join("77.json"),
        dir.path().join("containers/a.b.77.json"),
    )
    .unwrap();
    fs::remove_dir(&of_container).unwrap();
    assert_eq!(records.all(), []);
    for _ in 0..2 {
        records.adopt();
        assert_eq!(records.all(), [record("a.b")]);
    }
    // A container may be called so.
    records.write(&record("a.b.77.json")).unwrap();
    records.adopt();
    assert_eq!(records.all().len(), 2);
}

/// Others' files, and what a version before has left, are no reason to find nothing.
#[test]
fn what_is_none_of_ours_hides_no_record() {
    let (dir, records) = empty();
    let below = |path: &str| dir.path().join(path);
    records.write(&record("abc")).unwrap();
    records.write(&record("gone")).unwrap();
    records.remove("gone", 77).unwrap();
    for file in [
        "containers/.x",
        "containers/a.9.json",
        "containers/x",
        "gone/a.9.json",
    ] {
        fs::write(below(file), "{").unwrap();
    }
    fs::create_dir(below("containers/.dir")).unwrap();
    // One that can't be understood hides no other of its container.
    fs::write(below("containers/abc/78.json"), "{").unwrap();
    assert_eq!(records.all(), [record("abc")]);
    assert_eq!(records.of_cgroup(77).unwrap(), Some(record("abc")));
    assert_eq!(records.of_cgroup(9).unwrap(), None);
    records.adopt();
    assert!(records.of_cgroup(9).is_err());
    assert!(below("containers/a/9.json").exists() && below("containers/x").exists());
    assert!(!below("gone/a.9.json").exists());
    assert_eq!(records.of_gone_cgroup(77).unwrap(), Some(record("gone")));
}
