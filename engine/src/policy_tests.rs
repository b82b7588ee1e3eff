//! Tests of what rules compile to.

use proptest::prelude::*;

use super::*;

fn policy(rules: &[&str]) -> Policy {
    denying(always(&list(&rules.join(" "))))
}

fn denying(deny: List) -> Policy {
    Policy::compile(&Rules {
        deny,
        ..Rules::default()
    })
}

fn list(text: &str) -> BTreeSet<Rule> {
    crate::annotation::parse_list(text).unwrap()
}

fn id(rule: &str) -> u32 {
    rule_id(&list(rule).pop_first().unwrap())
}

/// What the kernel side does with names: follow edges, give the last rule.
fn follow(policy: &Policy, kind: u32, names: &[&[u8]]) -> u32 {
    let mut found = RuleValue::default();
    for (index, name) in names.iter().enumerate() {
        if index != 0 && found.next == 0 {
            return 0;
        }
        let edge = Edge {
            kind,
            node: found.next,
            name: name.to_vec(),
        };
        match policy.edges.get(&edge) {
            Some(value) => found = *value,
            None => return 0,
        }
    }
    found.rule
}

fn resolved(policy: &Policy, path: &str) -> u32 {
    let names: Vec<&[u8]> = path[1..].rsplit('/').map(str::as_bytes).collect();
    follow(policy, KIND_PATH, &names)
}

#[test]
fn a_name_is_one_entry() {
    let policy = policy(&["whoami"]);
    let entries: Vec<_> = policy.entries(9).collect();
    assert_eq!(
        entries,
        [(
            RuleKey::new(9, 0, KIND_NAME, b"whoami").unwrap(),
            RuleValue {
                rule: id("whoami"),
                ..RuleValue::NONE
            }
        )]
    );
    assert_eq!(policy.kinds, 1 << KIND_NAME);
}

#[test]
fn paths_match_whole_and_nothing_else() {
    let policy = policy(&["/usr/bin/id", "/bin/id", "/id", "/usr/bin/ls"]);
    for path in ["/usr/bin/id", "/bin/id", "/id", "/usr/bin/ls"] {
        assert_ne!(resolved(&policy, path), 0, "{path}");
        assert_ne!(
            follow(&policy, KIND_REQUESTED, &[path.as_bytes()]),
            0,
            "{path}"
        );
    }
    for path in [
        "/usr/id",
        "/opt/usr/bin/id",
        "/bin/ls",
        "/ls",
        "/usr/bin/idx",
        "/usr/bin/id/x",
    ] {
        assert_eq!(resolved(&policy, path), 0, "{path}");
        assert_eq!(
            follow(&policy, KIND_REQUESTED, &[path.as_bytes()]),
            0,
            "{path}"
        );
    }
}

#[test]
fn a_path_of_whole_pieces_has_an_empty_last_one() {
    let text = format!("/{}", "a".repeat(NAME_MAX - 1));
    assert_eq!(pieces(text.as_bytes()), [text.as_bytes(), b""]);
    let longer = format!("{text}/b");
    assert_eq!(pieces(longer.as_bytes()), [text.as_bytes(), b"/b"]);
}

#[test]
fn a_rule_has_its_id_and_its_time_wherever_it_stands() {
    let mut rules = always(&list("id /usr/bin/id"));
    let window = Window { from: 7, until: 9 };
    for held in rules.values_mut() {
        held.window = window;
    }
    let policy = denying(rules);
    let ends = policy
        .entries(1)
        .filter(|(_, value)| value.rule != 0)
        .map(|(_, value)| (value.rule, value.from, value.until));
    let ends: BTreeSet<_> = ends.collect();
    assert_eq!(ends, [(id("id"), 7, 9), (id("/usr/bin/id"), 7, 9)].into());
    assert_ne!(
        policy.digest,
        denying(always(&list("id /usr/bin/id"))).digest
    );
}

#[test]
fn where_two_windows_meet_the_wider_one_holds() {
    let window = |from, until| Window { from, until };
    assert_eq!(window(3, 5).or(window(8, 9)), window(3, 9));
    assert_eq!(window(0, 5).or(window(8, 0)), Window::ALWAYS);
    assert_eq!(Window::ALWAYS.or(window(2, 4)), Window::ALWAYS);
}

fn rules(deny: &[Rule], allow: &[Rule]) -> Rules {
    let list = |rules: &[Rule]| always(&rules.iter().cloned().collect());
    Rules {
        deny: list(deny),
        allow: list(allow),
    }
}

#[test]
fn each_kind_of_rule_has_its_entries_in_each_list() {
    let all = [
        Rule::Name("a".into()),
        Rule::Prefix("ab".into()),
        Rule::Suffix(".sh".into()),
        Rule::Path("/b/c".into()),
        Rule::Directory("/d/e/".into()),
        Rule::Directory("/".into()),
    ];
    let shape = |policy: &Policy| {
        let edges = policy.edges.iter();
        let globs = policy.globs.keys();
        let edges: Vec<_> = edges
            .map(|(edge, value)| {
                let name = String::from_utf8(edge.name.clone()).unwrap();
                (edge.kind, name, value.rule != 0)
            })
            .collect();
        let globs: Vec<_> = globs
            .map(|glob| (glob.kind, String::from_utf8(glob.text.clone()).unwrap()))
            .collect();
        (edges, globs)
    };
    let edge = |kind, name: &str, ends| (kind, name.to_owned(), ends);
    let (edges, globs) = shape(&Policy::compile(&rules(&all, &[])));
    assert_eq!(
        edges,
        [
            edge(KIND_NAME, "a", true),
            edge(KIND_PATH, "c", false),
            edge(KIND_PATH, "b", true),
            edge(KIND_REQUESTED, "/b/c", true),
            edge(KIND_DIR, "", true),
            edge(KIND_DIR, "d", false),
            edge(KIND_DIR, "e", true),
        ]
    );
    assert_eq!(
        globs,
        [
            (KIND_PREFIX, "ab".to_owned()),
            (KIND_SUFFIX, "hs.".to_owned())
        ]
    );
    let (edges, globs) = shape(&Policy::compile(&rules(&[], &all)));
    assert_eq!(
        edges,
        [
            edge(KIND_ALLOW_NAME, "a", true),
            edge(KIND_ALLOW_PATH, "c", false),
            edge(KIND_ALLOW_PATH, "b", true),
            edge(KIND_ALLOW_DIR, "", true),
            edge(KIND_ALLOW_DIR, "d", false),
            edge(KIND_ALLOW_DIR, "e", true),
        ]
    );
    assert_eq!(
        globs,
        [
            (KIND_ALLOW_PREFIX, "ab".to_owned()),
            (KIND_ALLOW_SUFFIX, "hs.".to_owned())
        ]
    );
}

#[test]
fn the_same_rule_in_the_other_list_is_another_policy() {
    let rule = [Rule::Name("a".into())];
    let denied = Policy::compile(&rules(&rule, &[]));
    let allowed = Policy::compile(&rules(&[], &rule));
    assert_ne!(denied.digest, allowed.digest);
}

#[test]
fn a_longer_glob_holds_whenever_a_shorter_one_does() {
    let mut list = always(&[Rule::Prefix("py".into()), Rule::Prefix("python".into())].into());
    list.get_mut(&Rule::Prefix("python".into())).unwrap().window = Window { from: 0, until: 9 };
    let policy = denying(list);
    assert!(policy.globs.values().all(RuleValue::holds_always));
}

#[test]
fn order_and_repetition_change_nothing() {
    assert_eq!(policy(&["a", "/b/c"]), policy(&["/b/c", "a", "a"]));
    assert_ne!(policy(&["a"]).digest, policy(&["b"]).digest);
    assert_ne!(policy(&["a"]).preferred_id(), 0);
}

proptest! {
    #[test]
    fn every_rule_is_found_by_its_own_path(
        paths in prop::collection::btree_set("(/[a-c]{1,2}){1,5}", 1..40),
        other in "(/[a-c]{1,2}){1,5}",
    ) {
        let list: Vec<&str> = paths.iter().map(String::as_str).collect();
        let policy = policy(&list);
        for path in &paths {
            prop_assert_eq!(resolved(&policy, path), id(path));
        }
        prop_assert_eq!(resolved(&policy, &other) != 0, paths.contains(&other));
    }
}
