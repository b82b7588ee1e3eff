//! `cargo xtask test`: what each change must pass, this machine's tests beside those of the
//! virtual ones, and one line of totals at the end.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    thread,
};

use anyhow::{Context, Result};

use crate::{
    host,
    vm::{self, Totals},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave the virtual machines out
    #[arg(long)]
    no_vm: bool,
    #[command(flatten)]
    selection: vm::Selection,
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    if !arguments.no_vm {
        // Better now than after ten minutes of other tests.
        vm::check_tools()?;
    }
    if !host::is_root() {
        println!("note: not root, so tests that load eBPF programs here will skip");
    }
    // The tree's own rules (`cargo xtask tidy`) are one of this crate's tests.
    let totals = thread::scope(|scope| -> Result<Totals> {
        // Many of them wait, for a lock or for a process.
        let tests = scope.spawn(cargo_test);
        let mut totals = Totals::default();
        if !arguments.no_vm {
            // Mostly waits for the network.
            scope.spawn(|| vm::fetch_ahead(&arguments.selection));
            totals += vm::run_cases(&arguments.selection)?;
        }
        totals += tests.join().ok().context("a thread panicked")??;
        Ok(totals)
    })?;
    println!("{totals}");
    Ok(totals.good(!arguments.selection.no_skip))
}

/// What is not built unless it is asked for, and tested all the same.
const OPTIONAL: &str = "execblock-cli/kubernetes";

/// Runs the workspace's tests with their output on ours, and counts them.
fn cargo_test() -> Result<Totals> {
    let mut cargo = host::cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(["--features", OPTIONAL])
        .current_dir(host::checkout())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test")?;
    let mut totals = Totals::default();
    let output = cargo.stdout.take().context("no standard output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(some) = count(&line) {
            totals += some;
        }
    }
    if !cargo.wait()?.success() && totals.failed == 0 {
        // Something did not compile, or died without a result.
        println!("FAIL  cargo test");
        totals.failed = 1;
    }
    Ok(totals)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(line: &str) -> Option<Totals> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut totals = Totals::default();
    for part in counts.split("; ") {
        match part.split_once(' ') {
            Some((number, "passed")) => totals.passed = number.parse().ok()?,
            Some((number, "failed")) => totals.failed = number.parse().ok()?,
            Some((number, "ignored")) => totals.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_test_are_counted() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered \
                    out; finished in 0.01s";
        assert_eq!(
            count(line),
            Some(Totals {
                passed: 12,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(count("test tests::a ... ok"), None);
    }
}
