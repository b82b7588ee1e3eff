//! Tests of the annotation language.

use plugin_common::{GLOB_MAX, NAME_MAX, PATH_COMPONENTS_MAX, PATH_MAX};
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

fn directory(text: &str) -> Rule {
    Rule::Directory(text.to_owned())
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
fn each_kind_of_item_is_read() {
    for (item, expected) in [
        ("whoami", name("whoami")),
        ("[", name("[")),
        ("überprüfen", name("überprüfen")),
        ("a@b", name("a@b")),
        ("python*", Rule::Prefix("python".into())),
        ("*.sh", Rule::Suffix(".sh".into())),
        (".*", Rule::Prefix(".".into())),
        ("/usr/bin/id", path("/usr/bin/id")),
        ("/id", path("/id")),
        ("/usr/bin/...", path("/usr/bin/...")),
        ("/opt/tools/", directory("/opt/tools/")),
        ("/", directory("/")),
    ] {
        assert_eq!(parse_list(item), Ok([expected].into()), "{item:?}");
    }
}

#[test]
fn a_group_stands_for_its_members() {
    let rules = parse_list("whoami @shells").unwrap();
    assert!(rules.contains(&name("whoami")) && rules.contains(&name("bash")));
    let shells: BTreeSet<Rule> = crate::groups::find("shells").unwrap().rules().collect();
    assert!(rules.is_superset(&shells) && rules.len() == shells.len() + 1);
}

#[test]
fn an_item_that_is_no_rule_is_refused_with_its_position() {
    let long_name = "n".repeat(NAME_MAX + 1);
    let long_part = format!("/usr/{long_name}");
    let long_path = format!("/{}", "a/".repeat(2_048));
    let deep = "/a".repeat(PATH_COMPONENTS_MAX + 1);
    let deep_directory = format!("{deep}/");
    let long_glob = format!("{}*", "g".repeat(GLOB_MAX + 1));
    let cases: &[(&str, usize, ItemProblem)] = &[
        ("a,,b", 2, ItemProblem::Empty),
        (",a", 1, ItemProblem::Empty),
        ("a,", 2, ItemProblem::Empty),
        ("a b, ,c", 3, ItemProblem::Empty),
        ("a,./x", 2, ItemProblem::Relative),
        ("bin/x", 1, ItemProblem::Relative),
        ("bin/", 1, ItemProblem::Relative),
        ("a,b\u{1}", 2, ItemProblem::Control),
        ("a\u{0}", 1, ItemProblem::Control),
        ("a\u{85}", 1, ItemProblem::Control),
        ("a\u{b}b", 1, ItemProblem::Control),
        (&long_name, 1, ItemProblem::NameTooLong(256)),
        (&long_part, 1, ItemProblem::NameTooLong(256)),
        (&long_path, 1, ItemProblem::PathTooLong(4_097)),
        (&deep, 1, ItemProblem::PathTooDeep(PATH_COMPONENTS_MAX + 1)),
        (
            &deep_directory,
            1,
            ItemProblem::PathTooDeep(PATH_COMPONENTS_MAX + 1),
        ),
        ("//", 1, ItemProblem::NotNormal),
        ("/usr/bin//", 1, ItemProblem::NotNormal),
        ("/usr//bin/x", 1, ItemProblem::NotNormal),
        ("/usr/../x", 1, ItemProblem::NotNormal),
        ("/usr/./", 1, ItemProblem::NotNormal),
        ("..", 1, ItemProblem::NotAName),
        ("*", 1, ItemProblem::Everything),
        ("a **", 2, ItemProblem::ManyStars),
        ("*a*", 1, ItemProblem::ManyStars),
        ("a*b", 1, ItemProblem::StarInside),
        ("/usr/bin/python*", 1, ItemProblem::StarInPath),
        ("/usr/*/python", 1, ItemProblem::StarInPath),
        ("usr/*", 1, ItemProblem::StarInPath),
        (&long_glob, 1, ItemProblem::GlobTooLong(GLOB_MAX + 1)),
        ("a, @nothing", 2, ItemProblem::UnknownGroup),
        ("@", 1, ItemProblem::UnknownGroup),
        ("@Shells", 1, ItemProblem::UnknownGroup),
    ];
    for (list, position, reason) in cases {
        assert_eq!(item_error(list), (*position, *reason), "{list:?}");
    }
    assert_eq!("@shells".parse::<Rule>(), Err(ItemProblem::Group));
}

#[test]
fn what_can_not_be_meant_is_told_what_can() {
    for (item, expected) in [
        (
            "*",
            "expected text before or behind it (python*, *.sh); everything is the directory /",
        ),
        ("a*b", "expected it at one end of a name"),
        ("/bin/*", "a directory with all below it (/usr/bin/)"),
        (
            "@shell",
            "unknown group, expected @shells, @package-managers, @network-tools, @compilers, \
                    @interpreters",
        ),
    ] {
        let error = parse_list(item).unwrap_err().to_string();
        assert!(error.contains(expected), "{item}: {error}");
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
    let deepest = format!("{}/", "/a".repeat(PATH_COMPONENTS_MAX));
    assert_eq!(parse_list(&deepest), Ok([directory(&deepest)].into()));
    let glob = "g".repeat(GLOB_MAX);
    assert_eq!(
        parse_list(&format!("{glob}* *{glob}")),
        Ok([Rule::Prefix(glob.clone()), Rule::Suffix(glob)].into())
    );
    let many = (0..RULES_MAX)
        .map(|n| format!("p{n}"))
        .collect::<Vec<_>>()
        .join(",");
    assert_eq!(parse_list(&many).unwrap().len(), RULES_MAX);
    // A group's members count.
    let count = RULES_MAX - 1 + crate::groups::find("shells").unwrap().members.len();
    let one_fewer = many.rsplit_once(',').unwrap().0;
    assert_eq!(
        parse_list(&format!("{one_fewer} @shells")),
        Err(Problem::TooMany(count))
    );
}

#[test]
fn ten_thousand_items_are_refused_by_their_number() {
    let many = vec!["x"; 10_000].join(",");
    assert_eq!(parse_list(&many), Err(Problem::TooMany(10_000)));
}

#[test]
fn no_annotation_of_ours_asks_for_nothing() {
    assert!(read([]).unwrap().is_empty());
    let others = [
        one("io.kubernetes.cri/deny", "a"),
        one("execblocker/deny", "a"),
    ];
    assert!(read(others).unwrap().is_empty());
}

#[test]
fn all_keys_are_read() {
    let asked = read([
        one(DENY, "whoami"),
        one(ALLOW, "/usr/bin/nginx /usr/lib/"),
        one(MODE, " audit "),
        one(DRIFT, "deny"),
        one(PROFILE, "web, base web"),
    ]);
    assert_eq!(
        asked.unwrap(),
        Asked {
            deny: [name("whoami")].into(),
            allow: [path("/usr/bin/nginx"), directory("/usr/lib/")].into(),
            mode: Some(Mode::Audit),
            drift: Some(Drift::Deny),
            profiles: vec!["web".into(), "base".into()],
        }
    );
}

#[test]
fn an_unknown_key_of_ours_is_refused() {
    let error = read([one("execblock/denny", "whoami")]).unwrap_err();
    assert_eq!(error.problem, Problem::UnknownKey);
    assert_eq!(
        error.to_string(),
        "annotation execblock/denny: unknown key, expected execblock/deny, execblock/allow, \
         execblock/mode, execblock/drift or execblock/profile, optionally followed by \
         .container.NAME"
    );
}

#[test]
fn a_mode_needs_something_to_apply_to() {
    let error = read([one(MODE, "audit")]).unwrap_err();
    assert_eq!(
        (error.key.as_str(), error.problem),
        (MODE, Problem::ModeAlone)
    );
    for (key, value) in [(DENY, "a"), (ALLOW, "a"), (DRIFT, "off"), (PROFILE, "web")] {
        let asked = read([one(MODE, "audit"), one(key, value)]).unwrap();
        assert_eq!(asked.mode, Some(Mode::Audit), "{key}");
        assert!(!read([one(key, value)]).unwrap().is_empty(), "{key}");
    }
}

#[test]
fn values_that_are_none_are_refused() {
    for (key, value, expected) in [
        (MODE, "off", "expected \"enforce\" or \"audit\""),
        (MODE, "", "expected \"enforce\" or \"audit\""),
        (DRIFT, "Deny", "expected \"deny\", \"audit\" or \"off\""),
        (DRIFT, "true", "expected \"deny\", \"audit\" or \"off\""),
        (ALLOW, " ", "empty list"),
        (DENY, "", "empty list"),
        (PROFILE, "", "empty list, expected names of profiles"),
        (PROFILE, "web ../etc", "item 2 (\"../etc\"): not the name"),
        (PROFILE, "web,,b", "item 2 (\"\"): not the name"),
        (PROFILE, ".hidden", "item 1"),
        (PROFILE, &"p".repeat(PROFILE_NAME_MAX + 1), "item 1"),
    ] {
        let error = read([one(key, value)]).unwrap_err();
        assert_eq!(error.key, key);
        assert!(error.to_string().contains(expected), "{value:?}: {error}");
    }
    let many = (0..=PROFILES_MAX)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(" ");
    let error = read([one(PROFILE, &many)]).unwrap_err();
    assert_eq!(error.problem, Problem::TooManyProfiles);
}

#[test]
fn the_error_names_key_position_and_what_was_expected() {
    let annotation = Annotation {
        written: "execblock/deny.container.app",
        key: DENY,
        value: "whoami, ./id",
    };
    assert_eq!(
        read([annotation]).unwrap_err().to_string(),
        "annotation execblock/deny.container.app: item 2 (\"./id\"): relative path with a slash, \
         expected a name without slashes or an absolute path"
    );
}

/// Whether the kernel side can hold the rule.
fn is_valid(rule: &Rule) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_MAX && !name.contains('/');
    let is_glob = |text: &str| is_name(text) && text.len() <= GLOB_MAX && !text.contains('*');
    let is_path = |path: &str| {
        let components: Vec<&str> = path.split('/').skip(1).collect();
        path.starts_with('/')
            && path.len() <= PATH_MAX
            && components.len() <= PATH_COMPONENTS_MAX
            && components
                .into_iter()
                .all(|part| is_name(part) && part != "." && part != "..")
    };
    match rule {
        Rule::Name(text) => is_name(text),
        Rule::Prefix(text) | Rule::Suffix(text) => is_glob(text),
        Rule::Path(text) => is_path(text),
        Rule::Directory(text) => text == "/" || text.strip_suffix('/').is_some_and(is_path),
    }
}

/// Items, more of them near the language than chance would make.
fn item() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9._+-]{1,20}",
        "[a-z*/.@]{0,12}",
        "(/[a-z.]{0,4}){0,40}/?",
        "\\PC{0,300}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn never_panics_and_rules_are_valid(value in prop::collection::vec(item(), 0..8)) {
        if let Ok(rules) = parse_list(&value.join(",")) {
            prop_assert!(!rules.is_empty() && rules.len() <= RULES_MAX);
            for rule in rules {
                prop_assert!(is_valid(&rule), "{rule:?}");
            }
        }
    }

    #[test]
    fn a_rule_is_read_from_what_it_prints(item in item()) {
        if let Ok(rule) = item.parse::<Rule>() {
            prop_assert_eq!(&rule.to_string(), &item);
            prop_assert_eq!(item.parse::<Rule>(), Ok(rule));
        }
    }

    #[test]
    fn what_was_written_comes_back(names in prop::collection::btree_set("[a-z0-9._+-]{3,20}", 1..50)) {
        let list = names.iter().cloned().collect::<Vec<_>>().join(", ");
        let back: Vec<String> = parse_list(&list).unwrap().iter().map(ToString::to_string).collect();
        prop_assert_eq!(back, names.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn the_position_is_that_of_the_first_bad_item(
        before in prop::collection::vec("[a-z]{1,5}", 0..20),
        after in prop::collection::vec("[a-z/*]{0,5}", 0..5),
        separator in prop_oneof![Just(","), Just(" , "), Just(", ")],
    ) {
        let mut all = before.clone();
        all.push("./bad".to_owned());
        all.extend(after);
        let (position, reason) = item_error(&all.join(separator));
        prop_assert_eq!((position, reason), (before.len() + 1, ItemProblem::Relative));
    }

    #[test]
    fn annotations_never_panic(key in "execblock/[a-z.]{0,20}", value in any::<String>()) {
        let known = [DENY, ALLOW, MODE, DRIFT, PROFILE];
        for key in known.into_iter().chain([key.as_str()]) {
            if let Err(error) = read([one(key, &value)]) {
                prop_assert!(error.to_string().contains(key));
            }
        }
    }
}
