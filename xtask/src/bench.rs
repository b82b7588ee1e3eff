//! `cargo xtask bench`: what costs how much, as figures for people and for
//! programs. Asserts nothing: machines differ, and this one is busy. What is measured and how
//! stands in the crate `bench`.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// What the OCI hook and the runtime wrapper add to a container's start
    Hooks {
        /// Measurements of each kind
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// What the daemon adds to a container's start, and its memory, by bound containers
    Bind {
        /// Measurements of each kind
        #[arg(long, default_value_t = 300)]
        runs: usize,
        /// Containers that are bound before
        #[arg(long, default_value = "0,1000,10000")]
        bound: String,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    if !host::is_root() {
        bail!("binding needs root: run it as root");
    }
    if !host::has_own_mounts() {
        return host::in_own_mounts(env::args_os().skip(1));
    }
    match &arguments.what {
        What::Hooks { runs } => hooks(*runs)?,
        What::Bind { runs, bound } => bind(*runs, bound)?,
    }
    Ok(true)
}

/// Hook and wrapper.
fn hooks(runs: usize) -> Result<()> {
    let programs = build()?;
    let mut bench = Command::new(programs.join("execblock-bench"));
    bench.arg("hooks").arg(&programs);
    for tool in ["runc", "busybox"] {
        if let Some(program) = host::find_program(tool) {
            bench.arg(format!("--{tool}")).arg(program);
        }
    }
    let found = measured(bench.args(["--runs", &runs.to_string()]))?;
    println!("{:32} {:>18} {:>10}", "µs", "median / p99", "added");
    for row in rows(&found) {
        let added = row["added"].as_f64().map(|added| format!("{added:.0}"));
        println!(
            "{:32} {:>18} {:>10}",
            row["name"].as_str().unwrap_or_default(),
            times(&row["times"]),
            added.unwrap_or_default()
        );
    }
    write("hooks", &found)
}

/// The daemon.
fn bind(runs: usize, bound: &str) -> Result<()> {
    let programs = build()?;
    let mut bench = Command::new(programs.join("execblock-bench"));
    bench.arg("bind").arg(programs.join("execblock"));
    let found = measured(bench.args(["--runs", &runs.to_string(), "--bound", bound]))?;
    println!(
        "µs, median / p99; a plugin that does nothing: {}",
        times(&found["bare"])
    );
    println!(
        "{:>8} {:>18} {:>18} {:>18}",
        "bound", "not annotated", "bind", "unbind"
    );
    for row in rows(&found) {
        let [plain, bind, unbind] = ["unannotated", "bind", "unbind"].map(|name| times(&row[name]));
        println!(
            "{:>8} {plain:>18} {bind:>18} {unbind:>18}",
            number(&row["bound"])
        );
    }
    println!("the daemon's memory, KiB resident, and milliseconds of a restart");
    println!(
        "{:>8} {:>18} {:>18} {:>18} {:>18}",
        "bound", "empty", "full", "restarted", "synchronize"
    );
    for row in rows(&found) {
        let memory = &row["resident_kib"];
        println!(
            "{:>8} {:>18} {:>18} {:>18} {:>18}",
            number(&row["bound"]),
            number(&memory["empty"]),
            number(&memory["bound"]),
            number(&memory["restarted"]),
            number(&row["synchronize_ms"])
        );
    }
    write("bind", &found)
}

/// What the program found; what it says meanwhile is seen.
fn measured(bench: &mut Command) -> Result<Value> {
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

/// For programs.
fn write(name: &str, result: &Value) -> Result<()> {
    let folder = host::target_directory()?.join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join(name).with_extension("json");
    fs::write(&file, format!("{result:#}\n")).with_context(|| file.display().to_string())?;
    println!("{}", file.display());
    Ok(())
}

fn build() -> Result<PathBuf> {
    let packages = ["execblock-cli", "execblock-hooks", "execblock-bench"];
    let packages = packages.into_iter().flat_map(|package| ["-p", package]);
    let mut cargo = host::cargo();
    let cargo = cargo.args(["build", "--release", "--bins"]).args(packages);
    host::run(cargo.current_dir(host::checkout()))?;
    Ok(host::target_directory()?.join("release"))
}
