//! Tests of the texts of profiles and of the node's configuration.

use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_profile_is_read() {
    let profile = parse_profile(
        r#"
description = "a web server"
deny = ["@shells", "curl"]
allow = "/usr/sbin/nginx, /usr/lib/"
mode = "audit"
drift = "deny"
"#,
    )
    .unwrap();
    assert_eq!(profile.description, "a web server");
    assert_eq!(
        profile.layer,
        Layer {
            deny: parse_list("@shells curl").unwrap(),
            allow: parse_list("/usr/sbin/nginx /usr/lib/").unwrap(),
            mode: Some(Mode::Audit),
            drift: Some(Drift::Deny),
        }
    );
}

#[test]
fn a_configuration_is_read() {
    let config = parse_config(
        r#"
[[default]]
name = "shops"
match = { namespace = ["shop", "shop-*"], labels = { tier = "web" } }
exempt = [{ namespace = "shop-debug" }]
deny = ["@package-managers"]
profile = "web base"

[[default]]
name = "all"
drift = "audit"
"#,
    )
    .unwrap();
    let [shops, all] = &config.defaults[..] else {
        panic!("{config:?}");
    };
    assert_eq!(shops.profiles, ["web", "base"]);
    assert_eq!(
        shops.containers.namespaces,
        [
            Pattern::Exact("shop".into()),
            Pattern::Prefix("shop-".into())
        ]
    );
    assert_eq!(all.layer.drift, Some(Drift::Audit));
    assert_eq!(parse_config("").unwrap(), NodeConfig::default());
}

#[test]
fn a_default_is_for_the_containers_that_it_matches() {
    let config = parse_config(
        r#"
[[default]]
name = "d"
match = { namespace = ["shop", "team-*"], labels = { tier = "web", env = "prod" } }
exempt = [{ namespace = "team-debug" }, { namespace = "team-*", labels = { debug = "yes" } }]
deny = "id"
"#,
    )
    .unwrap();
    let default = &config.defaults[0];
    let both: &[_] = &[("tier", "web"), ("env", "prod"), ("x", "y")];
    let debug: &[_] = &[("tier", "web"), ("env", "prod"), ("debug", "yes")];
    for (namespace, pod, expected) in [
        ("shop", Some(both), true),
        ("shop", Some(debug), true),
        ("shops", Some(both), false),
        ("team-a", Some(both), true),
        ("team-", Some(both), true),
        ("team-debug", Some(both), false),
        ("team-a", Some(debug), false),
        ("shop", Some(&both[..1]), false),
        ("shop", Some(&[("tier", "db"), ("env", "prod")][..]), false),
        ("", Some(both), false),
        // Not known: the default holds, and no exemption by labels does.
        ("shop", None, true),
        ("team-a", None, true),
        ("team-debug", None, false),
        ("other", None, false),
    ] {
        let pod = pod.map(labels);
        let subject = Subject {
            namespace,
            labels: pod.as_ref(),
        };
        assert_eq!(default.is_for(subject), expected, "{namespace:?} {pod:?}");
    }
    let everything = parse_config("[[default]]\nname = \"a\"\ndeny = \"id\"").unwrap();
    let subject = Subject {
        namespace: "",
        labels: None,
    };
    assert!(everything.defaults[0].is_for(subject));
}

#[test]
fn what_is_not_understood_is_named_with_its_line() {
    for (text, line, expected) in [
        ("deny = \"id\"\ndeney = \"ls\"", 2, "deney"),
        (
            "deny = [\"id\", \"./x\"]",
            1,
            "item 2 (\"./x\"): relative path",
        ),
        (
            "\n\ndeny = \"a, @nothing\"",
            3,
            "item 2 (\"@nothing\"): unknown group",
        ),
        (
            "deny = \"id\"\nmode = \"off\"",
            2,
            "expected \"enforce\" or \"audit\"",
        ),
        ("drift = true", 1, "true"),
        (
            "drift = \"on\"",
            1,
            "expected \"deny\", \"audit\" or \"off\"",
        ),
        ("deny = []", 1, "empty list"),
        ("allow = []", 1, "empty list"),
        ("deny = 7", 1, "an array of items, or text"),
        ("deny = [7]", 1, "7"),
        ("profile = \"other\"", 1, "profile"),
        ("description = \"nothing\"", 1, "says nothing"),
        ("mode = \"audit\"", 1, "says nothing"),
        ("deny = \"id\"\ndeny = \"ls\"", 2, "duplicate"),
        ("deny = ", 1, ""),
    ] {
        let error = parse_profile(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}: {error}");
        assert!(error.problem.contains(expected), "{text:?}: {error}");
    }
    let table = |body: &str| format!("# first\n[[default]]\nname = \"n\"\n{body}");
    for (text, line, expected) in [
        (table("mode = \"audit\""), 2, "\"n\": says nothing"),
        (table("deny = \"id\"\nmatches = {}"), 5, "matches"),
        (table("deny = \"id\"\nmatch = { name = \"x\" }"), 5, "name"),
        (
            table("deny = \"id\"\nmatch = { namespace = \"*x\" }"),
            5,
            "namespace \"*x\"",
        ),
        (
            table("deny = \"id\"\nmatch = { namespace = \"\" }"),
            5,
            "namespace \"\"",
        ),
        (
            table("deny = \"id\"\nmatch = { namespace = [] }"),
            5,
            "no namespace",
        ),
        (table("profile = \"../x\""), 4, "item 1 (\"../x\")"),
        ("[[default]]\ndeny = \"id\"".to_owned(), 1, "name"),
        (
            "[[default]]\nname = \"\"\ndeny = \"id\"".to_owned(),
            1,
            "expected a name",
        ),
        (
            "[[default]]\nname = \"a\\nb\"\ndeny = \"id\"".to_owned(),
            1,
            "expected a name",
        ),
        (
            format!("{}\n{}", table("deny = \"id\""), table("deny = \"id\"")),
            6,
            "a second one",
        ),
        ("[[defaults]]\nname = \"n\"".to_owned(), 1, "defaults"),
    ] {
        let error = parse_config(&text).unwrap_err();
        assert!(error.problem.contains(expected), "{text:?}: {error}");
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", body in "[a-z=\"\\[\\]{}*, \n]{0,200}") {
        for text in [text, body] {
            drop(parse_profile(&text));
            drop(parse_config(&format!("[[default]]\n{text}")));
        }
    }

    /// A profile's list is read as an annotation's.
    #[test]
    fn a_list_is_what_an_annotation_would_have(list in "[a-z*/@., ]{1,30}") {
        let profile = parse_profile(&format!("deny = {list:?}"));
        match parse_list(&list) {
            Ok(rules) => prop_assert_eq!(profile.unwrap().layer.deny, rules),
            Err(problem) => prop_assert_eq!(profile.unwrap_err().problem, problem.to_string()),
        }
    }
}
