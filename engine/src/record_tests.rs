//! Tests of records and of the directory that they are in.

use proptest::prelude::*;

use super::*;

fn record(container: &str) -> Record {
    Record {
        owner: Owner {
            container: container.to_owned(),
            name: "app".into(),
            ..Owner::default()
        },
        cgroup: 77,
        path: "/kubepods/x".into(),
        deny: vec!["whoami".into()],
        mode: "enforce".into(),
        ..Record::default()
    }
}

#[test]
fn what_a_container_is_bound_to_comes_back_from_its_record() {
    use crate::order::{Change, Until};
    let spec = Spec {
        deny: crate::annotation::parse_list("whoami /bin/id").unwrap(),
        mode: Mode::Audit,
        ..Spec::default()
    };
    let change = Change::Deny(vec!["ls".parse().unwrap()], Until::At(9));
    let orders = Orders::default().after(Some(&spec), &change, 1).unwrap();
    let cgroup = Cgroup {
        id: 7,
        level: Some(1),
        path: "/x".into(),
    };
    let record = Record::new(&Owner::default(), &cgroup, Some(&spec), &orders);
    let text = serde_json::to_string(&record).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(record.spec().unwrap(), Some(spec));
    assert_eq!(record.orders().unwrap(), orders);
    assert_eq!(record.mode().unwrap(), Mode::Audit);
}

/// What the version before wrote is still read.
#[test]
fn a_record_without_the_newer_fields_is_read() {
    let text = r#"{"container":"abc","name":"app","engine":"","pod":"","namespace":"",
        "cgroup":77,"path":"/kubepods/x","deny":["whoami"],"mode":"enforce"}"#;
    let read: Record = serde_json::from_str(text).unwrap();
    assert_eq!(read, record("abc"));
    assert_eq!(read.spec().unwrap().unwrap().drift, Drift::Off);
}

fn rules() -> impl Strategy<Value = BTreeSet<Rule>> {
    let item = prop_oneof![
        "[a-z]{1,4}",
        "[a-z]{1,3}\\*",
        "\\*[a-z]{1,3}",
        "(/[a-z]{1,3}){1,3}/?",
        Just("/".to_owned()),
    ];
    prop::collection::btree_set(item.prop_map(|item| item.parse().unwrap()), 0..5)
}

fn spec() -> impl Strategy<Value = Spec> {
    let origin = prop_oneof![
        Just(None),
        "[a-z:. ]{1,8}".prop_map(|name| Some(Origin::Profile(name))),
        "[a-z:. ]{1,8}".prop_map(|name| Some(Origin::NodeDefault(name))),
    ];
    let origins = (prop::collection::vec(origin, 5), any::<bool>());
    let mode = prop::sample::select(&Mode::ALL[..]);
    let drift = prop::sample::select(&Drift::ALL[..]);
    (rules(), rules(), mode, drift, origins).prop_map(|(deny, allow, mode, drift, origins)| {
        let (origins, bounded) = origins;
        let some = |rules: &BTreeSet<Rule>| {
            let rules = rules.iter().cloned().zip(&origins);
            rules
                .filter_map(|(rule, origin)| origin.clone().map(|origin| (rule, origin)))
                .collect()
        };
        Spec {
            origins: Origins {
                deny: some(&deny),
                allow: some(&allow),
            },
            deny,
            allow,
            mode,
            drift,
            bounded,
        }
    })
}

proptest! {
    #[test]
    fn every_spec_comes_back_from_its_record(spec in spec()) {
        let cgroup = Cgroup { id: 7, level: Some(1), path: "/x".into() };
        let record = Record::new(&Owner::default(), &cgroup, Some(&spec), &Orders::default());
        let text = serde_json::to_string(&record).unwrap();
        let record: Record = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(record.spec().unwrap(), Some(spec).filter(|spec| !spec.is_empty()));
    }
}

#[test]
fn a_record_changed_by_hand_says_so() {
    let mut record = record("abc");
    record.deny = vec!["a/b".into()];
    assert!(record.spec().unwrap_err().to_string().contains("a/b"));
    record.mode = "off".into();
    assert!(record.mode().unwrap_err().to_string().contains("off"));
    record.drift = "on".into();
    assert!(record.drift().unwrap_err().to_string().contains("on"));
}

#[test]
fn a_record_comes_back_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::below(dir.path());
    assert_eq!(records.read("abc", 77).unwrap(), None);
    records.write(&record("abc")).unwrap();
    assert_eq!(records.read("abc", 77).unwrap(), Some(record("abc")));
    assert_eq!(records.all(), [record("abc")]);
    records.remove(&record("abc")).unwrap();
    records.remove(&record("abc")).unwrap();
    assert_eq!(records.all(), []);
}

#[test]
fn two_containers_of_one_id_have_a_record_each() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::below(dir.path());
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
    // By the name that it may have, and whosever it is.
    for name in [other.owner.container.as_str(), "another"] {
        let found = records.of_cgroup_of(name, 78).unwrap();
        assert_eq!(found, Some(other.clone()), "{name}");
    }
    records.remove(&other).unwrap();
    assert_eq!(records.of_container("a.b").unwrap(), [record("a.b")]);
}

#[test]
fn an_id_never_leaves_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::below(dir.path());
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
    let dir = tempfile::tempdir().unwrap();
    let records = Records::below(dir.path());
    records.write(&record("abc")).unwrap();
    let path = dir.path().join("containers/abc.77.json");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let victim = dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, path.with_extension("new")).unwrap();
    let error = records.write(&record("abc")).unwrap_err().to_string();
    assert!(error.contains("abc.77.new"), "{error}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(records.read("abc", 77).unwrap().is_some());
}
