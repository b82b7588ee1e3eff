//! Tests of orders.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::annotation::parse_list;

fn spec(list: &str) -> Spec {
    Spec {
        deny: parse_list(list).unwrap(),
        ..Spec::default()
    }
}

fn list(text: &str) -> Vec<Rule> {
    parse_list(text).unwrap().into_iter().collect()
}

fn deny(text: &str, until: Until) -> Change {
    Change::Deny(list(text), until)
}

fn allow(text: &str, until: Until) -> Change {
    Change::Allow(list(text), until)
}

/// The orders after these changes, all at time 10.
fn after(spec: Option<&Spec>, changes: &[Change]) -> Orders {
    changes.iter().fold(Orders::default(), |orders, change| {
        orders.after(spec, change, 10).unwrap()
    })
}

/// What is refused at `time`.
fn refused(spec: Option<&Spec>, orders: &Orders, time: u64) -> BTreeSet<String> {
    holding(orders.rules(spec, 10).deny, time)
}

/// The rules of a list that hold at `time`.
fn holding(list: List, time: u64) -> BTreeSet<String> {
    let rules = list.into_iter();
    rules
        .filter(|(_, held)| {
            let Window { from, until } = held.window;
            from <= time && (until == 0 || time < until)
        })
        .map(|(rule, _)| rule.to_string())
        .collect()
}

#[track_caller]
fn check(spec: Option<&Spec>, changes: &[Change], at: &[(u64, &[&str])]) {
    let orders = after(spec, changes);
    for (time, expected) in at {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(refused(spec, &orders, *time), expected, "at {time}");
    }
}

use Until::{At, Cleared};

#[test]
fn deny_adds_to_the_annotations() {
    let spec = spec("whoami");
    check(
        Some(&spec),
        &[deny("id", Cleared)],
        &[(10, &["id", "whoami"]), (999, &["id", "whoami"])],
    );
    check(
        None,
        &[deny("id", At(20)), deny("ls", Cleared)],
        &[(19, &["id", "ls"]), (20, &["ls"])],
    );
}

#[test]
fn the_last_deny_of_a_rule_sets_its_end() {
    check(
        None,
        &[deny("id", Cleared), deny("id", At(20))],
        &[(19, &["id"]), (20, &[])],
    );
    check(
        None,
        &[deny("id", At(20)), deny("id", Cleared)],
        &[(50, &["id"])],
    );
}

#[test]
fn no_deny_shortens_an_annotation() {
    let spec = spec("id");
    check(Some(&spec), &[deny("id", At(20))], &[(50, &["id"])]);
}

#[test]
fn allow_lifts_for_good_or_for_a_time() {
    let spec = spec("whoami");
    check(
        Some(&spec),
        &[allow("whoami", Cleared)],
        &[(10, &[]), (99, &[])],
    );
    check(
        Some(&spec),
        &[allow("whoami", At(20))],
        &[(19, &[]), (20, &["whoami"])],
    );
    check(
        None,
        &[deny("id", Cleared), allow("id", At(20))],
        &[(19, &[]), (20, &["id"])],
    );
    check(
        None,
        &[deny("id", At(30)), allow("id", At(20))],
        &[(19, &[]), (20, &["id"]), (30, &[])],
    );
    check(
        None,
        &[deny("id", At(20)), allow("id", At(30))],
        &[(10, &[]), (25, &[])],
    );
}

#[test]
fn deny_ends_an_allow_and_clear_ends_all() {
    let spec = spec("whoami");
    check(
        Some(&spec),
        &[allow("whoami", Cleared), deny("whoami", At(20))],
        &[(10, &["whoami"]), (30, &["whoami"])],
    );
    check(
        Some(&spec),
        &[allow("whoami", Cleared), deny("id", Cleared), Change::Clear],
        &[(10, &["whoami"])],
    );
}

#[test]
fn an_allow_of_what_only_the_command_line_denied_leaves_nothing() {
    let orders = after(None, &[deny("id", Cleared), allow("id", Cleared)]);
    assert!(orders.is_empty());
}

#[test]
fn what_nothing_denies_is_not_lifted() {
    let spec = spec("/usr/bin/whoami");
    let orders = Orders::default();
    let error = orders
        .after(Some(&spec), &allow("whoami", Cleared), 10)
        .unwrap_err();
    assert!(error.to_string().contains("/usr/bin/whoami"), "{error}");
    let past = after(None, &[deny("id", At(20))]);
    assert!(past.after(None, &allow("id", Cleared), 20).is_err());
}

/// A container with an allow-list beside what it denies.
fn listing(deny: &str, allow: &str) -> Spec {
    Spec {
        allow: parse_list(allow).unwrap(),
        ..spec(deny)
    }
}

#[track_caller]
fn check_list(spec: Option<&Spec>, orders: &Orders, at: &[(u64, &[&str])]) {
    for (time, expected) in at {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        let list = holding(orders.rules(spec, 10).allow, *time);
        assert_eq!(list, expected, "at {time}");
    }
}

#[test]
fn allow_adds_to_an_allow_list_for_good_or_for_a_time() {
    let spec = listing("whoami", "sh");
    let spec = Some(&spec);
    let added = after(spec, &[allow("id", Cleared), allow("ls", At(20))]);
    check_list(
        spec,
        &added,
        &[(19, &["id", "ls", "sh"]), (20, &["id", "sh"])],
    );
    // What the annotations allow, no order ends.
    let again = after(spec, &[allow("sh", At(20))]);
    assert!(again.is_empty());
    check_list(spec, &again, &[(30, &["sh"])]);
    // What is denied is lifted, and added only when asked again.
    let lifted = after(spec, &[allow("whoami", Cleared)]);
    assert!(refused(spec, &lifted, 10).is_empty());
    check_list(spec, &lifted, &[(10, &["sh"])]);
    let both = after(spec, &[allow("whoami", Cleared), allow("whoami", At(20))]);
    assert!(refused(spec, &both, 10).is_empty());
    check_list(spec, &both, &[(19, &["sh", "whoami"]), (20, &["sh"])]);
    let cleared = both.after(spec, &Change::Clear, 10).unwrap();
    check_list(spec, &cleared, &[(10, &["sh"])]);
}

#[test]
fn deny_wins_over_an_ordered_item_and_leaves_it() {
    let spec = listing("x", "sh");
    let spec = Some(&spec);
    let orders = after(spec, &[allow("id", Cleared), deny("id", At(20))]);
    assert!(refused(spec, &orders, 19).contains("id"));
    assert!(!refused(spec, &orders, 20).contains("id"));
    check_list(spec, &orders, &[(10, &["id", "sh"])]);
}

#[test]
fn a_commands_own_lists_are_orders() {
    let name = |text: &str| Rule::Name(text.into());
    let orders = Orders::of_command([name("id"), name("sh")], [name("sh")]);
    assert_eq!(
        refused(None, &orders, 10),
        ["id".into(), "sh".into()].into()
    );
    check_list(None, &orders, &[(10, &["sh"])]);
    let more = orders.after(None, &allow("ls", Cleared), 10).unwrap();
    check_list(None, &more, &[(10, &["ls", "sh"])]);
    let error = Orders::of_command([name("id")], [])
        .after(None, &allow("ls", Cleared), 10)
        .unwrap_err();
    assert!(error.to_string().contains("no allow-list"), "{error}");
}

#[test]
fn a_message_names_some_of_many() {
    let many = |count: usize| -> Vec<String> { (0..count).map(|n| n.to_string()).collect() };
    assert_eq!(some(&many(2)), "0, 1");
    assert!(some(&many(12)).ends_with("10, 11"));
    assert!(some(&many(14)).ends_with("11 and 2 more"));
}

#[test]
fn what_is_over_is_forgotten() {
    let orders = after(None, &[deny("id", At(20))]);
    let later = orders.after(None, &deny("ls", Cleared), 20).unwrap();
    assert_eq!(later.by_rule().len(), 1);
    assert!(orders.lines(None, 20).is_empty());
}

#[test]
fn a_lifted_annotation_is_still_reported() {
    let spec = spec("whoami");
    let orders = after(Some(&spec), &[allow("whoami", Cleared)]);
    assert_eq!(
        orders.lines(Some(&spec), 10),
        [Line {
            list: In::Deny,
            rule: Rule::Name("whoami".into()),
            origin: Origin::Annotation,
            window: None,
        }]
    );
}

#[test]
fn orders_survive_their_file() {
    for order in [
        Order::default(),
        Order {
            deny: Some(Cleared),
            allow: Some(At(u64::MAX)),
            list: Some(At(1)),
        },
    ] {
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(
            serde_json::from_str::<Order>(&text).unwrap(),
            order,
            "{text}"
        );
    }
}

fn change() -> impl Strategy<Value = Change> {
    let until = prop_oneof![Just(Cleared), (5..40_u64).prop_map(At)];
    let names = prop::collection::vec("[a-c]", 1..3);
    (0..3, names, until).prop_map(|(verb, names, until)| {
        let rules = names.into_iter().map(Rule::Name).collect();
        match verb {
            0 => Change::Deny(rules, until),
            1 => Change::Allow(rules, until),
            _ => Change::Clear,
        }
    })
}

proptest! {
    /// Whatever was ordered, the end of all orders is what the annotations say,
    /// or more: no order outlives `Clear`, and none opens what it does not name.
    #[test]
    fn clear_comes_back_to_the_annotations(changes in prop::collection::vec(change(), 0..8)) {
        let spec = spec("a z");
        let mut orders = Orders::default();
        for change in &changes {
            // A refused command changes nothing.
            orders = orders.after(Some(&spec), change, 10).unwrap_or(orders);
        }
        for time in [10, 20, 100] {
            prop_assert!(refused(Some(&spec), &orders, time).contains("z"));
        }
        let cleared = orders.after(Some(&spec), &Change::Clear, 10).unwrap();
        let expected: BTreeSet<String> = ["a".to_owned(), "z".to_owned()].into();
        prop_assert_eq!(refused(Some(&spec), &cleared, 10), expected);
    }
}

#[test]
fn an_order_for_a_time_does_not_end_what_holds_for_good() {
    let app: Rule = "app".parse().unwrap();
    let orders = Orders::of_command([], [app.clone()]);
    for until in [Until::At(9), Until::Cleared] {
        let change = Change::Allow(vec![app.clone()], until);
        let after = orders.after(None, &change, 1).unwrap();
        assert_eq!(after.rules(None, 100).allow, orders.rules(None, 100).allow);
    }
}
