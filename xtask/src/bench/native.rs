//! What the crate `bench` measures on this machine: the daemon, the hook and the wrapper. It wants
//! root, for cgroups and maps.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host;

/// Runs the measuring program; `words` adds its arguments, given the folder of the programs. What
/// it says meanwhile is seen.
fn found(words: impl FnOnce(&mut Command, &Path)) -> Result<Value> {
    let programs = build()?;
    let mut bench = Command::new(programs.join("execblock-bench"));
    words(&mut bench, &programs);
    let found = bench.stderr(Stdio::inherit()).output();
    let found = found.context("execblock-bench")?;
    if !found.status.success() {
        bail!("execblock-bench: {}", found.status);
    }
    let mut found: Value = serde_json::from_slice(&found.stdout)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    found["kernel"] = release.trim().into();
    Ok(found)
}

/// The folder that has the programs, built once.
fn build() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(folder) = BUILT.get() {
        return Ok(folder.clone());
    }
    let packages = ["execblock-cli", "execblock-hooks", "execblock-bench"];
    let packages = packages.into_iter().flat_map(|package| ["-p", package]);
    let mut cargo = host::cargo();
    let cargo = cargo.args(["build", "--release", "--bins"]).args(packages);
    host::run(cargo.current_dir(host::checkout()))?;
    let folder = host::target_directory()?.join("release");
    Ok(BUILT.get_or_init(|| folder).clone())
}

/// An exec, by the clock.
pub(super) fn exec(rounds: usize, execs: usize) -> Result<Value> {
    found(|bench, programs| {
        bench.arg("exec").arg(programs.join("execblock"));
        bench.args(["--rounds", &rounds.to_string()]);
        bench.args(["--execs", &execs.to_string()]);
    })
}

/// Hook and wrapper.
pub(super) fn hooks(runs: usize, bound: &str) -> Result<Value> {
    let found = found(|bench, programs| {
        bench.arg("hooks").arg(programs);
        bench.args(["--runs", &runs.to_string(), "--bound", bound]);
        for tool in ["runc", "busybox"] {
            if let Some(program) = host::find_program(tool) {
                bench.arg(format!("--{tool}")).arg(program);
            }
        }
    })?;
    println!(
        "{:>8} {:32} {:>18} {:>10}",
        "bound", "µs", "median / p99", "added"
    );
    for row in rows(&found) {
        let added = row["added"].as_f64().map(|added| format!("{added:.0}"));
        println!(
            "{:>8} {:32} {:>18} {:>10}",
            number(&row["bound"]),
            row["name"].as_str().unwrap_or_default(),
            times(&row["times"]),
            added.unwrap_or_default()
        );
    }
    Ok(found)
}

/// The daemon.
pub(super) fn bind(runs: usize, bound: &str, policies: usize, rules: usize) -> Result<Value> {
    let found = found(|bench, programs| {
        bench.arg("bind").arg(programs.join("execblock"));
        bench.args(["--runs", &runs.to_string(), "--bound", bound]);
        bench.args(["--policies", &policies.to_string()]);
        bench.args(["--rules", &rules.to_string()]);
    })?;
    println!(
        "µs, median / p99; a plugin that does nothing: {}",
        times(&found["bare"])
    );
    table(&found, ["not annotated", "bind", "unbind", ""], |row| {
        ["unannotated", "bind", "unbind"].map(|name| times(&row[name]))
    });
    println!("µs from the start to a command's first line, directly and by execblock run;");
    println!("KiB of the kernel's for maps and for programs");
    table(
        &found,
        ["directly", "execblock run", "maps", "programs"],
        |row| {
            let kernel = &row["kernel"];
            [
                times(&row["direct"]),
                times(&row["run"]),
                number(&kernel["maps_kib"]),
                number(&kernel["programs_kib"]),
            ]
        },
    );
    println!("the daemon's memory, KiB resident, and milliseconds of a restart");
    table(
        &found,
        ["empty", "full", "restarted", "synchronize"],
        |row| {
            let memory = &row["resident_kib"];
            [
                number(&memory["empty"]),
                number(&memory["bound"]),
                number(&memory["restarted"]),
                number(&row["synchronize_ms"]),
            ]
        },
    );
    Ok(found)
}

/// A line for each number of bound containers.
fn table<const N: usize>(found: &Value, names: [&str; 4], columns: impl Fn(&Value) -> [String; N]) {
    let line = |first: &str, columns: &[&str]| {
        let columns = columns.iter().map(|column| format!(" {column:>18}"));
        println!("{first:>8}{}", columns.collect::<String>());
    };
    line("bound", &names);
    for row in rows(found) {
        let columns = columns(row);
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        line(&number(&row["bound"]), &columns);
    }
}

fn rows(found: &Value) -> impl Iterator<Item = &Value> {
    found["rows"].as_array().into_iter().flatten()
}

/// A value itself is not padded.
fn number(of: &Value) -> String {
    of.to_string()
}

fn times(of: &Value) -> String {
    let one = |name: &str| of[name].as_f64().unwrap_or_default();
    format!("{:.0} / {:.0}", one("median"), one("p99"))
}
