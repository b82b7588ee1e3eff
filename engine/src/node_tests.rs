//! Tests of what holds on a node.

use std::fs;

use super::*;
use crate::annotation::{DENY, Drift, MODE, PROFILE};

/// A directory with these files, and a node that follows them.
fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Node) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("profiles")).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let node = Node::unchecked(dir.path());
    (dir, node)
}

fn ask(
    node: &Node,
    namespace: &str,
    annotations: &[(&str, &str)],
) -> Result<Option<Spec>, SpecError> {
    let annotations = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let owner = Owner {
        name: "web".into(),
        namespace: namespace.to_owned(),
        ..Owner::default()
    };
    node.spec_of(&annotations, &owner, None)
}

fn denied(spec: Option<Spec>) -> Vec<String> {
    let deny = spec.unwrap_or_default().deny;
    deny.iter().map(ToString::to_string).collect()
}

const DEFAULTS: &str = r#"
[[default]]
name = "shop"
match = { namespace = "shop" }
deny = "curl"
profile = "base"
"#;

#[test]
fn without_files_annotations_hold_alone() {
    let node = Node::unchecked("/nowhere");
    assert_eq!(ask(&node, "shop", &[]).unwrap(), None);
    assert_eq!(denied(ask(&node, "shop", &[(DENY, "id")]).unwrap()), ["id"]);
    // Asked for, and nothing comes of it.
    let off = [(crate::annotation::DRIFT, "off")];
    assert_eq!(ask(&node, "", &off).unwrap(), None);
    assert!(!node.has_defaults());
}

#[test]
fn profiles_and_defaults_are_read() {
    let (_dir, node) = node(&[
        ("config.toml", DEFAULTS),
        ("profiles/base.toml", "deny = \"wget\"\ndrift = \"audit\""),
        ("profiles/web.toml", "deny = [\"@shells\"]"),
    ]);
    assert!(node.has_defaults());
    let spec = ask(&node, "shop", &[]).unwrap().unwrap();
    assert_eq!(spec.drift, Drift::Audit);
    assert_eq!(denied(Some(spec)), ["curl", "wget"]);
    assert_eq!(ask(&node, "other", &[]).unwrap(), None);
    let web = ask(&node, "other", &[(PROFILE, "web")]).unwrap();
    assert!(denied(web).contains(&"bash".to_owned()));
    let both = ask(&node, "shop", &[("execblock/deny.container.web", "id")]);
    assert_eq!(denied(both.unwrap()), ["curl", "id", "wget"]);
}

#[test]
fn what_is_missing_or_wrong_refuses_whom_it_is_for() {
    let (dir, node) = node(&[
        ("config.toml", DEFAULTS),
        ("profiles/bad.toml", "deny = \"id\"\nx = 1"),
    ]);
    let said = |namespace, annotations: &[(&str, &str)]| {
        ask(&node, namespace, annotations).unwrap_err().to_string()
    };
    let missing = said("other", &[(PROFILE, "nothing")]);
    assert!(
        missing.starts_with(
            "annotation execblock/profile: there is no profile \"nothing\" on this node"
        ),
        "{missing}"
    );
    // The default's own profile is missing: for those it is for, closed.
    assert!(said("shop", &[]).starts_with("node default shop: there is no profile \"base\""));
    assert_eq!(ask(&node, "other", &[]).unwrap(), None);
    let bad = said("other", &[(PROFILE, "bad")]);
    assert!(bad.contains("bad.toml: line 2: "), "{bad}");
    assert!(said("other", &[(MODE, "audit")]).contains("set alone"));

    // Whom it is for can't be told: closed for those who ask for something, open
    // for those who ask for nothing.
    fs::write(dir.path().join("config.toml"), "[[default]]\nnme = 1").unwrap();
    assert!(said("other", &[(DENY, "id")]).contains("config.toml: line 2: "));
    assert_eq!(ask(&node, "shop", &[]).unwrap(), None);
}

#[test]
fn only_roots_files_are_followed_on_a_node() {
    let (dir, unchecked) = node(&[
        ("config.toml", DEFAULTS),
        ("profiles/base.toml", "deny = \"id\""),
    ]);
    assert!(ask(&unchecked, "shop", &[(DENY, "ls")]).is_ok());
    let checked = Node {
        dir: dir.path().to_owned(),
        owner: Some(rustix::process::geteuid().as_raw()),
    };
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.path().join("profiles/base.toml");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    fs::set_permissions(
        dir.path().join("config.toml"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    assert!(ask(&checked, "shop", &[(DENY, "ls")]).is_ok());
    mode(0o664);
    let error = ask(&checked, "shop", &[(DENY, "ls")]).unwrap_err();
    assert!(error.to_string().contains("mode 0664"), "{error}");
}

#[test]
fn the_wrappers_part_of_the_file_is_no_defaults() {
    let wrapper = "[wrapper]\nruntime = \"/usr/bin/crun\"\n";
    let default = "[[default]]\nname = \"all\"\ndeny = [\"whoami\"]\n";
    for (text, expected) in [
        (wrapper.to_owned(), vec!["id"]),
        (format!("{default}{wrapper}"), vec!["id", "whoami"]),
    ] {
        let (_dir, node) = node(&[("config.toml", &text)]);
        assert_eq!(denied(ask(&node, "", &[(DENY, "id")]).unwrap()), expected);
    }
    let (_dir, node) = node(&[("config.toml", "[wraper]\n")]);
    assert!(ask(&node, "", &[(DENY, "id")]).is_err());
}

#[test]
fn the_daemons_part_of_the_file_is_no_defaults() {
    let daemons =
        "[log]\nformat = 1\n[metrics]\nlissten = true\n[events]\n[kubernetes]\n[nri]\nx = 1\n";
    let (_dir, node) = self::node(&[("config.toml", daemons)]);
    assert_eq!(denied(ask(&node, "", &[(DENY, "id")]).unwrap()), ["id"]);
    assert_eq!(node.config_text().unwrap().as_deref(), Some(daemons));
    assert!(
        !node.has_defaults(),
        "what holds for nobody was taken for a default"
    );
    let (_dir, node) = self::node(&[("config.toml", "[[default]]\n")]);
    assert!(node.has_defaults(), "what is not understood may have one");
}

#[test]
fn no_default_admits_what_anothers_drift_refuses() {
    let both = "[[default]]\nname = \"a\"\ndrift = \"deny\"\n\
                [[default]]\nname = \"b\"\nallow = [\"/data/\"]\n";
    let (_dir, node) = node(&[("config.toml", both)]);
    let said = ask(&node, "", &[]).unwrap_err().to_string();
    assert!(
        said.contains("/data/") && said.contains("default a"),
        "{said}"
    );
}
