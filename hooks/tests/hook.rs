//! `execblock-hook` as runtimes call it, as far as that needs neither root nor
//! eBPF: what it understands, and whom it leaves alone.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

fn hook(args: &[&str], state: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_execblock-hook"))
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end before it has read all of it.
    stdin.write_all(state.as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn check(state: &str, code: i32, said: &str) {
    let output = hook(&[], state);
    let err = String::from_utf8_lossy(&output.stderr);
    let shown = &state[..state.len().min(200)];
    assert_eq!(output.status.code(), Some(code), "{shown}: {err}");
    assert!(err.contains(said), "{shown}: {err}");
    assert!(err.lines().count() <= 1, "{shown}: {err}");
    assert!(output.stdout.is_empty());
}

#[test]
fn containers_without_annotations_are_left_alone() {
    let bundle = tempfile::tempdir().unwrap();
    fs::write(
        bundle.path().join("config.json"),
        r#"{"annotations":{"a":"b"}}"#,
    )
    .unwrap();
    let bundle = bundle.path().display();
    for state in [
        format!(r#"{{"id":"c1","status":"creating","pid":1,"bundle":"{bundle}"}}"#),
        format!(r#"{{"id":"c1","status":"created","pid":"odd","bundle":"{bundle}","x":[{{}}]}}"#),
        r#"{"id":"c1","status":"running","annotations":{"a":"execblock/deny"}}"#.to_owned(),
        r#"{"id":"../x","status":"creating","bundle":"/nowhere","annotations":{"a":1}}"#.to_owned(),
        r#"{"id":"c1","status":"creating","annotations":{"execblock/deny":"id",
            "io.kubernetes.cri.container-type":"sandbox"}}"#
            .to_owned(),
        r#"{"id":"c1","status":"creating","annotations":{"execblock/deny.container.b":"id",
            "io.kubernetes.container.name":"a"}}"#
            .to_owned(),
    ] {
        check(&state, 0, "");
    }
}

#[test]
fn what_is_no_state_is_refused_with_what_was_expected() {
    for state in ["", "{", "[1]", "null", "\u{0}"] {
        check(
            state,
            1,
            "expected a JSON object with id, status, pid and bundle",
        );
    }
    let endless = " ".repeat(17 << 20);
    check(&endless, 1, "more than 16777216 bytes");
}

#[test]
fn annotated_containers_are_refused_with_the_reason() {
    let state = |status: &str, rest: &str| {
        format!(r#"{{"id":"c1","status":"{status}","pid":4194305,{rest}}}"#)
    };
    let bad = r#""annotations":{"execblock/deny":"a/b"}"#;
    check(
        &state("creating", bad),
        1,
        "annotation execblock/deny: item 1 (\"a/b\")",
    );
    let unknown = r#""annotations":{"execblock/dney":"a"}"#;
    check(
        &state("created", unknown),
        1,
        "annotation execblock/dney: unknown key",
    );
    let good = r#""annotations":{"execblock/deny":"a"}"#;
    check(&state("running", good), 1, "status is \"running\"");
    check(&state("", good), 1, "status is \"\"");
    // Neither state nor bundle tell.
    check(
        &state("creating", r#""bundle":"/nowhere""#),
        1,
        "it can't be told",
    );
    check(r#"{"id":"c1","status":"creating"}"#, 1, "names no bundle");
    // The annotation is the bundle's alone.
    let bundle = tempfile::tempdir().unwrap();
    fs::write(
        bundle.path().join("config.json"),
        r#"{"annotations":{"execblock/mode":"enforce"}}"#,
    )
    .unwrap();
    let rest = format!(r#""bundle":"{}""#, bundle.path().display());
    check(&state("creating", &rest), 1, "execblock/mode: set alone");
}

#[test]
fn stopping_never_fails() {
    for rest in [
        "",
        r#","annotations":{"execblock/deny":"a/b"}"#,
        r#","bundle":"/nowhere","pid":0"#,
        r#","pid":4194305,"annotations":{"execblock/deny":"a"}"#,
    ] {
        check(
            &format!(r#"{{"id":"no-such-container","status":"stopped"{rest}}}"#),
            0,
            "",
        );
    }
    check(r#"{"id":"a/b","status":"stopped"}"#, 0, "");
}

#[test]
fn it_says_what_it_is() {
    let help = hook(&["--help"], "");
    assert!(help.status.success() && !help.stdout.is_empty());
    let version = hook(&["--version"], "");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert_eq!(
        version,
        concat!("execblock-hook ", env!("CARGO_PKG_VERSION"), "\n")
    );
    // Arguments of a hooks.d file say nothing.
    let state = r#"{"id":"c1","status":"stopped"}"#;
    assert!(hook(&["create-runtime", "--odd"], state).status.success());
}
