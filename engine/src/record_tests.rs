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
