//! The help texts, as users see them.

use assert_cmd::Command;

/// Those that the main help lists; the rest is hidden.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(ToOwned::to_owned)
        .collect()
}

/// As wide as a usual terminal.
fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_execblock"));
    let output = command
        .args(arguments)
        .env("COLUMNS", "88")
        .assert()
        .code(0)
        .stderr("");
    String::from_utf8_lossy(&output.get_output().stdout).into_owned()
}

#[test]
fn the_help_of_all() {
    insta::assert_snapshot!("execblock", help(&["--help"]));
}

#[test]
fn the_help_of_each_command() {
    let commands = commands(&help(&["--help"]));
    assert!(
        commands.iter().any(|command| command == "deny"),
        "{commands:?}"
    );
    for command in commands.iter().filter(|command| *command != "help") {
        insta::assert_snapshot!(format!("execblock-{command}"), help(&[command, "--help"]));
        // The short form is the same without what is told at length.
        let short = help(&[command, "-h"]);
        assert!(short.lines().all(|line| line.len() <= 88), "{short}");
    }
}
