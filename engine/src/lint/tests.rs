//! Tests of lint: what it says of files that are wrong, and of the examples.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::*;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let Finding {
            line,
            level,
            message,
        } = finding;
        format!("{line}: {level:?}: {message}\n")
    });
    lines.collect::<Vec<_>>().concat()
}

fn case(name: &str) -> String {
    let file = here("src/lint/cases").join(name);
    let node = Node::unchecked(here("src/lint/cases"));
    let findings = lint_yaml(&fs::read_to_string(file).unwrap(), &node);
    // The directory is another on each machine.
    text(&findings).replace(&*here("").to_string_lossy(), "")
}

#[test]
fn what_is_wrong_is_an_error_with_its_line() {
    insta::assert_snapshot!(case("errors.yaml"));
}

#[test]
fn what_does_not_hold_or_breaks_is_a_warning() {
    insta::assert_snapshot!(case("warnings.yaml"));
}

#[test]
fn profiles_and_defaults_of_a_node_count() {
    insta::assert_snapshot!(case("node.yaml"));
}

#[test]
fn a_value_without_quotes_is_told_so() {
    for value in ["*.sh", "@shells"] {
        let yaml = format!("kind: Pod\nmetadata:\n  annotations:\n    execblock/deny: {value}\n");
        let findings = lint_yaml(&yaml, &Node::unchecked("/nowhere"));
        let [finding] = &findings[..] else {
            panic!("{findings:?}");
        };
        assert_eq!(
            (finding.line, finding.level),
            (4, Level::Error),
            "{finding:?}"
        );
        assert!(
            finding.message.ends_with("must stand in quotes"),
            "{finding:?}"
        );
    }
}

#[test]
fn annotations_of_a_command_line_are_one_container_each() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let node = Node::unchecked("/nowhere");
    let findings = lint_pairs(
        &[
            pair("execblock/deny", "curl"),
            pair("execblock/mode.container.web", "audit"),
            pair("execblock/profile.container.db", "x"),
        ],
        &node,
    );
    assert_eq!(
        text(&findings),
        "0: Warning: annotation execblock/profile.container.db: profile \"x\" was not looked up, \
         there are no profiles here; --config-dir names a directory that has profiles/\n"
    );
    let alone = lint_pairs(&[pair("execblock/mode", "audit")], &node);
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].level, Level::Error);
}

#[test]
fn applets_are_in_order() {
    // They are searched by halves.
    assert!(known::APPLETS.is_sorted());
}

fn files(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else {
            all.push(path);
        }
    }
}

/// Each is read; none has an error, and each warning is one that is wanted.
#[test]
fn examples_have_no_errors() {
    let examples = here("../examples");
    let node = Node::unchecked(&examples);
    let mut all = Vec::new();
    files(&examples, &mut all);
    // Those for monitoring are read by a test of the daemon, units and quick starts by
    // the virtual machines.
    all.retain(|path| {
        !["grafana", "prometheus", "quickstart", "systemd"]
            .iter()
            .any(|dir| path.starts_with(examples.join(dir)))
    });
    all.sort();
    let mut said = String::new();
    for path in &all {
        let content = fs::read_to_string(path).unwrap();
        let findings = match path.extension().and_then(|ending| ending.to_str()) {
            Some("yaml") => {
                assert!(content.contains(PREFIX), "{}", path.display());
                lint_yaml(&content, &node)
            }
            Some("toml") => lint_toml(&content),
            _ => panic!("{}: no test reads such a file", path.display()),
        };
        let shown = path.strip_prefix(&examples).unwrap().display();
        said = format!("{said}{shown}\n{}", text(&findings));
        assert!(
            findings
                .iter()
                .all(|finding| finding.level == Level::Warning),
            "{shown}: {findings:?}"
        );
    }
    assert!(all.len() >= 7, "{all:?}");
    insta::assert_snapshot!(said);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        text in "\\PC{0,200}",
        yaml in "[a-z:&*\\[\\]{}>|'\"#!%@\n -]{0,300}",
        value in "[a-z*/@., ]{0,40}",
    ) {
        let node = Node::unchecked("/nowhere");
        drop(lint_yaml(&text, &node));
        drop(lint_yaml(&yaml, &node));
        drop(lint_toml(&text));
        let pod = format!(
            "kind: Pod\nmetadata:\n  annotations:\n    execblock/deny: {value:?}\nspec:\n  \
             containers:\n  - name: a\n    command: [{text:?}]\n"
        );
        drop(lint_yaml(&pod, &node));
    }

    /// What lint has no error for is what a node takes.
    #[test]
    fn no_error_means_understood(value in "[a-z*/@., ]{0,20}") {
        let pairs = [("execblock/deny".to_owned(), value.clone())];
        let findings = lint_pairs(&pairs, &Node::unchecked("/nowhere"));
        let wrong = findings.iter().any(|finding| finding.level == Level::Error);
        prop_assert_eq!(wrong, annotation::parse_list(&value).is_err());
    }
}
