//! Command lines of both dialects, by table.

use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split(' ')
        .filter(|word| !word.is_empty())
        .map(OsString::from)
        .collect()
}

/// Verb, number of words before it, id, root, bundle.
fn seen(line: &str) -> (Verb, usize, String, String, String) {
    let words = words(line);
    let found = Invocation::parse(&words);
    let text = |value: Option<&OsStr>| value.unwrap_or_default().to_string_lossy().into_owned();
    (
        found.verb,
        found.globals.len(),
        text(found.id),
        text(found.root.map(Path::as_os_str)),
        text(found.bundle.map(Path::as_os_str)),
    )
}

fn check(verb: Verb, table: &[(&str, usize, &str, &str, &str)]) {
    for (line, globals, id, root, bundle) in table {
        let expected = (
            verb,
            *globals,
            (*id).into(),
            (*root).into(),
            (*bundle).into(),
        );
        assert_eq!(seen(line), expected, "{line}");
    }
}

#[test]
fn start_in_every_spelling() {
    check(
        Verb::Start,
        &[
            ("start c1", 0, "c1", "", ""),
            ("--root /r start c1", 2, "c1", "/r", ""),
            ("--root=/r start c1", 1, "c1", "/r", ""),
            // Go's flag: one dash will do.
            ("-root /r start c1", 2, "c1", "/r", ""),
            ("-root=/r start c1", 1, "c1", "/r", ""),
            ("--debug --root /r start c1", 3, "c1", "/r", ""),
            (
                "--debug=false --systemd-cgroup=true start c1",
                2,
                "c1",
                "",
                "",
            ),
            // As containerd's shim, conmon and Podman call it.
            (
                "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup start c1",
                7,
                "c1",
                "/run/containerd/runc/k8s.io",
                "",
            ),
            ("--rootless true --criu start start c1", 4, "c1", "", ""),
            (
                "--cgroup-manager cgroupfs --root=start start c1",
                3,
                "c1",
                "start",
                "",
            ),
            // argp: beginnings of long names, the next word as value.
            (
                "--cgroup-m cgroupfs --log-l debug --sys start c1",
                5,
                "c1",
                "",
                "",
            ),
            ("--log-f json start c1", 2, "c1", "", ""),
            // The last one counts.
            ("--root /a --root /b start c1", 4, "c1", "/b", ""),
            ("--root= start c1", 1, "c1", "", ""),
            // Flags that nobody knows, with and without a value.
            ("--new start c1", 1, "c1", "", ""),
            ("--new value start c1", 2, "c1", "", ""),
            ("--new=start start c1", 1, "c1", "", ""),
            ("--new --debug start c1", 2, "c1", "", ""),
            ("-- start c1", 1, "c1", "", ""),
            ("start -- c1", 0, "c1", "", ""),
            ("start -- --odd", 0, "--odd", "", ""),
            ("start --help c1", 0, "c1", "", ""),
            ("start", 0, "", "", ""),
            ("start start", 0, "start", "", ""),
            ("start -", 0, "-", "", ""),
        ],
    );
}

#[test]
fn bundles_in_every_spelling() {
    let table = [
        ("run c1", 0, "c1", "", ""),
        ("run -b /b c1", 0, "c1", "", "/b"),
        ("run -b=/b c1", 0, "c1", "", "/b"),
        ("run --bundle /b c1", 0, "c1", "", "/b"),
        ("run --bundle=/b c1", 0, "c1", "", "/b"),
        ("run -bundle /b c1", 0, "c1", "", "/b"),
        ("run -bundle=/b c1", 0, "c1", "", "/b"),
        // argp
        ("run -b/b c1", 0, "c1", "", "/b"),
        ("run -db /b c1", 0, "c1", "", "/b"),
        ("run -db/b c1", 0, "c1", "", "/b"),
        ("run --bun /b c1", 0, "c1", "", "/b"),
        // runc looks for flags after the id as well.
        ("run c1 --bundle /b", 0, "c1", "", "/b"),
        (
            "run --pid-file /p --console-socket /s -d c1 -b /b",
            0,
            "c1",
            "",
            "/b",
        ),
        ("run --preserve-fds 3 --keep c1", 0, "c1", "", ""),
        ("run --no-pivot --detach=true c1", 0, "c1", "", ""),
        ("run --pid-file run run", 0, "run", "", ""),
    ];
    check(Verb::Run, &table);
    check(
        Verb::Restore,
        &[
            (
                "restore --image-path /i --work-path /w -d -b /b c1",
                0,
                "c1",
                "",
                "/b",
            ),
            (
                "restore --empty-ns network --tcp-established c1 --bundle=/b",
                0,
                "c1",
                "",
                "/b",
            ),
            (
                "--criu /c restore --manage-cgroups-mode soft c1",
                2,
                "c1",
                "",
                "",
            ),
        ],
    );
    check(Verb::Create, &[("create -b /b c1", 0, "c1", "", "/b")]);
}

#[test]
fn another_configuration_is_seen() {
    for line in [
        "run -f /c c1",
        "run -f/c c1",
        "run --config /c c1",
        "run --config=/c c1",
        "run -df /c c1",
        "run --conf /c c1",
    ] {
        let words = words(line);
        let found = Invocation::parse(&words);
        assert_eq!(found.config, Some(Path::new("/c")), "{line}");
        assert_eq!(found.id, Some(OsStr::new("c1")), "{line}");
    }
    // Of `delete` the same letter takes no value.
    check(
        Verb::Delete,
        &[
            ("delete -f c1", 0, "c1", "", ""),
            ("delete c1 --force", 0, "c1", "", ""),
            ("delete -fr c1", 0, "c1", "", ""),
            ("delete --force=true c1", 0, "c1", "", ""),
        ],
    );
}

#[test]
fn everything_else_is_left_alone() {
    for line in [
        "",
        "--version",
        "-v",
        "--help",
        "features",
        "create-not c1",
        "state c1",
        "kill c1 start",
        "exec c1 start",
        "exec --process start run",
        "--root /r list",
        "--root start",
        "--log start",
        "ps c1",
        "--",
        "-",
        "spec --bundle /b",
    ] {
        assert_eq!(seen(line).0, Verb::Other, "{line}");
    }
}

#[test]
fn where_errors_go() {
    for (line, log, json) in [
        ("--log /l --log-format json start c1", "/l", true),
        ("--log=/l --log-format=json start c1", "/l", true),
        ("-log /l -log-format text start c1", "/l", false),
        ("--log-format json start c1", "", true),
        ("start --log /l c1", "", false),
    ] {
        let words = words(line);
        let found = Invocation::parse(&words);
        assert_eq!(found.log.unwrap_or_default(), log, "{line}");
        assert_eq!(found.log_json, json, "{line}");
    }
}

proptest::proptest! {
    /// Whatever stands there: no panic, and what comes before the verb is a
    /// beginning of the line.
    #[test]
    fn any_line_is_read(words in proptest::collection::vec("(-|--)?[a-z=/]{0,9}", 0..8)) {
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let found = Invocation::parse(&words);
        proptest::prop_assert!(words.starts_with(found.globals));
        if found.verb != Verb::Other {
            proptest::prop_assert!(found.globals.len() < words.len());
        }
    }
}
