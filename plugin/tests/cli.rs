//! The command line without the kernel's help: what is refused before anything
//! is touched.

use assert_cmd::Command;
use predicates::{prelude::PredicateBooleanExt as _, str::contains};

fn execblock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_execblock"))
}

#[test]
fn a_bad_rule_is_a_usage_error_that_names_position_and_expectation() {
    for (list, message) in [
        (
            "whoami,,id",
            "item 2 (\"\"): empty item, expected a name or an absolute path",
        ),
        (
            "./whoami",
            "item 1 (\"./whoami\"): relative path with a slash",
        ),
        ("who\u{7}ami", "control character"),
        ("", "empty list"),
        ("python*", "this version has no patterns"),
    ] {
        execblock()
            .args(["run", "--deny", list, "--", "true"])
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains("execblock: --deny: ").and(contains(message)));
    }
    let long = "n".repeat(256);
    execblock()
        .args(["run", "--deny", &long, "--", "true"])
        .assert()
        .code(2)
        .stderr(contains("name of 256 bytes, expected at most 255"));
}

#[test]
fn a_bad_order_is_a_usage_error_and_looks_for_no_container() {
    for (arguments, message) in [
        (
            &["deny", "web", "./id"][..],
            "item 1 (\"./id\"): relative path",
        ),
        (
            &["allow", "web", "id", "a/b"],
            "item 2 (\"a/b\"): relative path",
        ),
        (&["deny", "web", "id", "--for", "0s"], "expected a time"),
        (&["deny", "web", "id", "--for", "soon"], "--for"),
        (&["deny", "web"], "PROGRAM"),
        (&["clear"], "CONTAINER"),
    ] {
        execblock()
            .args(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains(message));
    }
}

#[test]
fn what_clap_refuses_is_a_usage_error_too() {
    for arguments in [
        &["run", "--", "true"][..],
        &["run", "--deny", "whoami"],
        &[
            "run",
            "--deny",
            "whoami",
            "--mechanism",
            "magic",
            "--",
            "true",
        ],
        &["load", "--max-containers", "0"],
        &["nonsense"],
    ] {
        execblock().args(arguments).assert().code(2);
    }
    execblock().assert().code(2).stderr(contains("Usage"));
}

#[test]
fn help_tells_the_exit_statuses() {
    execblock()
        .arg("--help")
        .assert()
        .code(0)
        .stdout(contains("0 done, 1 failed, 2 usage, 3 this kernel can't"));
    execblock()
        .arg("--version")
        .assert()
        .code(0)
        .stdout(contains(env!("CARGO_PKG_VERSION")));
}
