//! States, configurations and owners of containers, by table.

use proptest::prelude::*;

use super::*;

/// A node without profiles and defaults.
fn nowhere() -> Node {
    Node::unchecked("/nowhere")
}

fn container(state: &str, config: &str) -> Container {
    let state = State::parse(state.as_bytes()).unwrap();
    let config = Config::parse(config.as_bytes(), Path::new("config.json")).unwrap();
    Container::new(state, config)
}

#[test]
fn the_state_wins_and_the_configuration_adds() {
    let found = container(
        r#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":7,"bundle":"/b",
            "annotations":{"execblock/deny":"id","a":"1"},"root":"/run/crun"}"#,
        r#"{"ociVersion":"9","process":{"args":["x"],"new":[1]},
            "annotations":{"execblock/deny":"ls","execblock/mode":"audit"},
            "linux":{"cgroupsPath":"/a/c1","seccomp":{"syscalls":[]}}}"#,
    );
    assert_eq!(found.pid, 7);
    assert_eq!(found.cgroups_path.as_deref(), Some("/a/c1"));
    let spec = found.spec(&nowhere()).unwrap().unwrap();
    assert_eq!(
        spec.deny
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["id"]
    );
    assert_eq!(spec.mode, crate::annotation::Mode::Audit);
}

#[test]
fn fields_that_are_not_needed_may_be_anything() {
    for state in [
        r#"{"id":"c1"}"#,
        r#"{"id":"c1","pid":null,"annotations":null}"#,
        r#"{"id":"c1","pid":"7","status":3,"bundle":[]}"#,
        r#"{"id":"c1","pid":-1e9,"annotations":{"a":1,"b":{"c":[]}}}"#,
        r#"{"id":"c1","pid":99999999999}"#,
    ] {
        let found = container(state, r#"{"linux":null,"annotations":{"a":5}}"#);
        assert_eq!(
            (found.pid, found.owner.container.as_str()),
            (0, "c1"),
            "{state}"
        );
        assert_eq!(found.spec(&nowhere()).unwrap(), None, "{state}");
    }
}

#[test]
fn what_is_no_state_is_told_what_was_expected() {
    for text in [
        "",
        "{",
        "[]",
        "7",
        "\"x\"",
        r#"{"id":"a","annotations":[]}"#,
    ] {
        let error = State::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains("expected a JSON object with id"),
            "{text}: {error}"
        );
    }
    let number = r#"{"id":"a","annotations":{"execblock/deny":7}}"#;
    let error = State::parse(number.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "annotation execblock/deny: expected a string");
}

#[test]
fn owners_by_engine() {
    // Annotations, cgroupsPath: engine, name, pod, namespace.
    let table = [
        (
            r#"{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.sandbox-name":"web",
                "io.kubernetes.cri.sandbox-namespace":"default"}"#,
            "kubepods-podU.slice:cri-containerd:ID",
            ["containerd", "app", "web", "default"],
        ),
        (
            r#"{"io.container.manager":"cri-o","io.kubernetes.container.name":"app",
                "io.kubernetes.pod.name":"web","io.kubernetes.pod.namespace":"ns"}"#,
            "kubepods.slice:crio:ID",
            ["cri-o", "app", "web", "ns"],
        ),
        (
            r#"{"io.container.manager":"libpod"}"#,
            "machine.slice:libpod:ID",
            ["podman", "", "", ""],
        ),
        (
            r#"{"nerdctl/name":"web","nerdctl/namespace":"default"}"#,
            "/default/ID",
            ["nerdctl", "web", "", ""],
        ),
        ("{}", "system.slice:docker:ID", ["docker", "", "", ""]),
        ("{}", "/docker/ID", ["docker", "", "", ""]),
        ("{}", "/libpod_parent/libpod-ID", ["podman", "", "", ""]),
        ("{}", "/default/ID", ["oci", "", "", ""]),
        ("{}", "", ["oci", "", "", ""]),
    ];
    for (annotations, path, expected) in table {
        let config =
            format!(r#"{{"annotations":{annotations},"linux":{{"cgroupsPath":"{path}"}}}}"#);
        let owner = container(r#"{"id":"ID"}"#, &config).owner;
        let found = [&owner.engine, &owner.name, &owner.pod, &owner.namespace];
        assert_eq!(found, expected, "{annotations} {path}");
        assert_eq!(owner.container, "ID");
    }
}

#[test]
fn what_holds_a_pod_is_left_alone() {
    for key in [
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri-o.ContainerType",
    ] {
        for (kind, ours) in [("sandbox", false), ("container", true)] {
            let state =
                format!(r#"{{"id":"a","annotations":{{"{key}":"{kind}","execblock/deny":"id"}}}}"#);
            let found = container(&state, "{}");
            assert_eq!(found.is_annotated(), ours, "{key} {kind}");
            assert_eq!(
                found.spec(&nowhere()).unwrap().is_some(),
                ours,
                "{key} {kind}"
            );
        }
    }
}

#[test]
fn a_stream_without_end_is_refused() {
    let error = read_bounded(io::repeat(b' '), "standard input").unwrap_err();
    assert!(matches!(error, OciError::TooLong(_)), "{error}");
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text: Vec<u8>) {
        State::parse(&text).ok();
        Config::parse(&text, Path::new("x")).ok();
    }
}

#[test]
fn under_cri_o_containerds_keys_are_the_pods_own_word() {
    let found = container(
        r#"{"id":"c1","pid":7}"#,
        r#"{"annotations":{
            "io.kubernetes.cri.container-type":"sandbox",
            "io.kubernetes.cri.sandbox-namespace":"exempt",
            "io.kubernetes.cri-o.ContainerType":"container",
            "io.kubernetes.pod.namespace":"shop",
            "execblock/deny":"id"}}"#,
    );
    assert!(found.is_annotated());
    assert_eq!(
        (found.owner.engine.as_str(), found.owner.namespace.as_str()),
        ("cri-o", "shop")
    );
    let sandbox = container(
        r#"{"id":"c1","pid":7}"#,
        r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox",
            "execblock/deny":"id"}}"#,
    );
    assert!(!sandbox.is_annotated());
}
