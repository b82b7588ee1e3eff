//! Tests of the annotation language.

use proptest::prelude::*;

use super::*;

fn one<'a>(key: &'a str, value: &'a str) -> Annotation<'a> {
    Annotation {
        written: key,
        key,
        value,
    }
}

fn name(text: &str) -> Rule {
    Rule::Name(text.to_owned())
}

fn path(text: &str) -> Rule {
    Rule::Path(text.to_owned())
}

fn item_error(value: &str) -> (usize, ItemProblem) {
    match parse_list(value) {
        Err(Problem::Item {
            position, reason, ..
        }) => (position, reason),
        other => panic!("{value:?}: expected a bad item, got {other:?}"),
    }
}

#[test]
fn splits_at_commas_and_white_space() {
    let expected: BTreeSet<Rule> = [name("a"), name("b"), path("/usr/bin/c")].into();
    for list in [
        "a,b,/usr/bin/c",
        "a b /usr/bin/c",
        " a,\tb\n/usr/bin/c ",
        "a , b , /usr/bin/c, a",
    ] {
        assert_eq!(parse_list(list), Ok(expected.clone()), "{list:?}");
    }
}

#[test]
fn an_item_that_is_no_rule_is_refused_with_its_position() {
    let long_name = "n".repeat(NAME_MAX + 1);
    let long_part = format!("/usr/{long_name}");
    let long_path = format!("/{}", "a/".repeat(2_048));
    let deep = "/a".repeat(PATH_COMPONENTS_MAX + 1);
    let cases: &[(&str, usize, ItemProblem)] = &[
        ("a,,b", 2, ItemProblem::Empty),
        (",a", 1, ItemProblem::Empty),
        ("a,", 2, ItemProblem::Empty),
        ("a b, ,c", 3, ItemProblem::Empty),
        ("a,./x", 2, ItemProblem::Relative),
        ("bin/x", 1, ItemProblem::Relative),
        ("a,b\u{1}", 2, ItemProblem::Control),
        ("a\u{0}", 1, ItemProblem::Control),
        ("a\u{85}", 1, ItemProblem::Control),
        (&long_name, 1, ItemProblem::NameTooLong(256)),
        (&long_part, 1, ItemProblem::NameTooLong(256)),
        (&long_path, 1, ItemProblem::PathTooLong(4_097)),
        (&deep, 1, ItemProblem::PathTooDeep(PATH_COMPONENTS_MAX + 1)),
        ("/usr/bin/", 1, ItemProblem::Directory),
        ("/", 1, ItemProblem::Directory),
        ("/usr//bin/x", 1, ItemProblem::NotNormal),
        ("/usr/../x", 1, ItemProblem::NotNormal),
        ("..", 1, ItemProblem::NotAName),
        ("python*", 1, ItemProblem::Pattern),
        ("@shells", 1, ItemProblem::Group),
    ];
    for (list, position, reason) in cases {
        assert_eq!(item_error(list), (*position, *reason), "{list:?}");
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    let longest = "n".repeat(NAME_MAX);
    assert_eq!(parse_list(&longest), Ok([name(&longest)].into()));
    let longest_path = format!("/{}", vec!["p".repeat(255); 16].join("/"));
    assert_eq!(longest_path.len(), 4_096);
    let longest_path = &longest_path[..PATH_MAX];
    assert_eq!(parse_list(longest_path), Ok([path(longest_path)].into()));
    let many = (0..RULES_MAX)
        .map(|n| format!("p{n}"))
        .collect::<Vec<_>>()
        .join(",");
    assert_eq!(parse_list(&many).unwrap().len(), RULES_MAX);
}

#[test]
fn ten_thousand_items_are_refused_by_their_number() {
    let many = vec!["x"; 10_000].join(",");
    assert_eq!(parse_list(&many), Err(Problem::TooMany(10_000)));
}

#[test]
fn no_annotation_of_ours_is_none() {
    assert_eq!(parse([]), Ok(None));
    assert_eq!(
        parse([
            one("io.kubernetes.cri/deny", "a"),
            one("execblocker/deny", "a")
        ]),
        Ok(None)
    );
}

#[test]
fn an_unknown_key_of_ours_is_refused() {
    let error = parse([one("execblock/denny", "whoami")]).unwrap_err();
    assert_eq!(error.problem, Problem::UnknownKey);
    assert_eq!(
        error.to_string(),
        "annotation execblock/denny: unknown key, expected execblock/deny or execblock/mode, \
         optionally followed by .container.NAME"
    );
}

#[test]
fn a_mode_needs_a_list() {
    let error = parse([one(MODE, "audit")]).unwrap_err();
    assert_eq!(error.problem, Problem::ModeAlone);
    let spec = parse([one(MODE, "audit"), one(DENY, "a")])
        .unwrap()
        .unwrap();
    assert_eq!(spec.mode, Mode::Audit);
    assert!(matches!(
        parse([one(MODE, "off"), one(DENY, "a")])
            .unwrap_err()
            .problem,
        Problem::Mode(_)
    ));
}

#[test]
fn the_error_names_key_position_and_what_was_expected() {
    let annotation = Annotation {
        written: "execblock/deny.container.app",
        key: DENY,
        value: "whoami, ./id",
    };
    assert_eq!(
        parse([annotation]).unwrap_err().to_string(),
        "annotation execblock/deny.container.app: item 2 (\"./id\"): relative path with a slash, \
         expected a name without slashes or an absolute path"
    );
}

proptest! {
    #[test]
    fn never_panics_and_rules_are_valid(value in any::<String>()) {
        if let Ok(rules) = parse_list(&value) {
            prop_assert!(!rules.is_empty() && rules.len() <= RULES_MAX);
            for rule in rules {
                match rule {
                    Rule::Name(text) => prop_assert!(
                        !text.is_empty() && text.len() <= NAME_MAX && !text.contains('/')
                    ),
                    Rule::Path(text) => prop_assert!(
                        text.starts_with('/') && text.len() <= PATH_MAX && !text.ends_with('/')
                    ),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_was_written_comes_back(names in prop::collection::btree_set("[a-z0-9._+-]{3,20}", 1..50)) {
        let list = names.iter().cloned().collect::<Vec<_>>().join(", ");
        let back: Vec<String> = parse_list(&list).unwrap().iter().map(ToString::to_string).collect();
        prop_assert_eq!(back, names.into_iter().collect::<Vec<_>>());
    }
}
