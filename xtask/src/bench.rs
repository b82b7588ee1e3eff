//! `cargo xtask bench`: what costs how much, as figures for people and for
//! programs. Asserts nothing: machines differ, and this one is busy. What is measured and how
//! stands in the crate `bench`.

use std::{
    env, fs,
    io::ErrorKind,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use crate::{
    chart, host,
    vm::{
        cost::{self, Figure, Figures},
        peers,
    },
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Instructions that an exec costs, by mechanism and situation, in emulated machines
    Cost {
        /// Mechanism to measure; may be repeated
        #[arg(long, value_name = "MECHANISM", value_parser = PossibleValuesParser::new(cost::mechanisms()))]
        mechanism: Vec<String>,
        /// Only what every change can wait for
        #[arg(long, conflicts_with = "write")]
        few: bool,
        /// Fail where something costs over 2 % more than the committed figures say
        #[arg(long)]
        check: bool,
        /// Commit these figures: write bench/baseline.json
        #[arg(long, conflicts_with = "check")]
        write: bool,
        /// Virtual machines at a time; each keeps one processor busy
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// Draw the committed costs: write docs/cost.svg
    Chart,
    /// What a BCC script costs that refuses one command, beside execblock, in an emulated
    /// machine
    Peers,
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
        /// So many different policies
        #[arg(long, default_value_t = 1)]
        policies: usize,
        /// Names that each of them has
        #[arg(long, default_value_t = 3)]
        rules: usize,
    },
    /// What an exec takes by the clock, without the programs and with them
    Exec {
        /// How often each situation is measured
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Execs of one measurement
        #[arg(long, default_value_t = 500)]
        execs: usize,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    if let What::Cost {
        mechanism,
        few,
        check,
        write,
        jobs,
    } = &arguments.what
    {
        let now = measured_costs(mechanism, *few, *jobs)?;
        return held_against_the_committed(now, *check, *write);
    }
    if let What::Chart = &arguments.what {
        let figures = committed()?.unwrap_or_default();
        draw(&figures)?;
        return Ok(true);
    }
    if let What::Peers = &arguments.what {
        return compared_with_peers();
    }
    if !host::is_root() {
        bail!("binding needs root: run it as root");
    }
    if !host::has_own_mounts() {
        return host::in_own_mounts(env::args_os().skip(1));
    }
    match &arguments.what {
        What::Cost { .. } | What::Chart | What::Peers => {}
        What::Hooks { runs } => hooks(*runs)?,
        What::Bind {
            runs,
            bound,
            policies,
            rules,
        } => bind(*runs, bound, (*policies, *rules))?,
        What::Exec { rounds, execs } => exec(*rounds, *execs)?,
    }
    Ok(true)
}

/// Figures that are committed, below the checkout.
pub(crate) const BASELINE: &str = "bench/baseline.json";

/// What the programs cost, under these mechanisms or all.
fn measured_costs(mechanisms: &[String], few: bool, jobs: usize) -> Result<Figures> {
    let all: Vec<String> = cost::mechanisms().map(ToOwned::to_owned).collect();
    let wanted = if mechanisms.is_empty() {
        &all
    } else {
        mechanisms
    };
    cost::measure(wanted, few, jobs)
}

/// Prints them beside those that are committed, and keeps them in their place.
fn held_against_the_committed(now: Figures, check: bool, keep: bool) -> Result<bool> {
    let before = committed()?.unwrap_or_default();
    println!(
        "{:10} {:36} {:>8} {:>8} {:>9}  programs",
        "", "instructions an exec", "now", "before", "whole"
    );
    for figure in &now.figures {
        let is =
            |other: &&Figure| (&other.mechanism, &other.what) == (&figure.mechanism, &figure.what);
        let known = before.figures.iter().find(is);
        let known = known.map_or_else(String::new, |known| known.exec.to_string());
        let programs = figure.programs.iter();
        let programs: Vec<String> = programs
            .map(|(name, each)| format!("{name} {each}"))
            .collect();
        println!(
            "{:10} {:36} {:>8} {known:>8} {:>9}  {}",
            figure.mechanism,
            figure.what,
            figure.exec,
            figure.whole,
            programs.join(", ")
        );
    }
    write("cost", &serde_json::to_value(&now)?)?;
    let (worse, unknown) = cost::compare(&before, &now);
    for line in &unknown {
        println!("not compared: {line}");
    }
    for line in &worse {
        println!("worse: {line}");
    }
    if keep {
        let mut kept = before;
        kept.figures
            .retain(|figure| !now.kernels.contains_key(&figure.mechanism));
        kept.figures.extend(now.figures);
        kept.kernels.extend(now.kernels);
        let text = serde_json::to_string_pretty(&kept)?;
        let baseline = host::checkout().join(BASELINE);
        fs::write(&baseline, text + "\n").context(BASELINE)?;
        draw(&kept)?;
    }
    Ok(!check || worse.is_empty())
}

/// What is committed, if anything is.
fn committed() -> Result<Option<Figures>> {
    match fs::read(host::checkout().join(BASELINE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).context(BASELINE)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(BASELINE),
    }
}

fn draw(figures: &Figures) -> Result<()> {
    let file = host::checkout().join(chart::CHART);
    fs::write(&file, chart::of(figures)?).with_context(|| file.display().to_string())
}

fn compared_with_peers() -> Result<bool> {
    let peers = peers::measure()?;
    for peer in &peers {
        let resident = peer.resident_kib;
        let resident = resident.map_or_else(|| "none".to_owned(), |kib| format!("{kib} KiB"));
        println!("{}", peer.name);
        let start = peer.start_ns / 1_000_000;
        println!("  until it refuses, ms of the guest   {start:>12}");
        println!("  process that has to live            {resident:>12}");
        for (what, instructions) in &peer.exec {
            println!("  instructions, {what:21} {instructions:>12}");
        }
    }
    write("peers", &serde_json::to_value(&peers)?)?;
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
fn bind(runs: usize, bound: &str, (policies, rules): (usize, usize)) -> Result<()> {
    let programs = build()?;
    let mut bench = Command::new(programs.join("execblock-bench"));
    bench.arg("bind").arg(programs.join("execblock"));
    bench.args(["--runs", &runs.to_string(), "--bound", bound]);
    bench.args(["--policies", &policies.to_string()]);
    let found = measured(bench.args(["--rules", &rules.to_string()]))?;
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
    println!("µs from the start to a command's first line, directly and by execblock run;");
    println!("KiB of the kernel's for maps and for programs");
    println!(
        "{:>8} {:>18} {:>18} {:>18} {:>18}",
        "bound", "directly", "execblock run", "maps", "programs"
    );
    for row in rows(&found) {
        let kernel = &row["kernel"];
        println!(
            "{:>8} {:>18} {:>18} {:>18} {:>18}",
            number(&row["bound"]),
            times(&row["direct"]),
            times(&row["run"]),
            number(&kernel["maps_kib"]),
            number(&kernel["programs_kib"])
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

/// By the clock.
fn exec(rounds: usize, execs: usize) -> Result<()> {
    let programs = build()?;
    let mut bench = Command::new(programs.join("execblock-bench"));
    bench.arg("exec").arg(programs.join("execblock"));
    bench.args(["--rounds", &rounds.to_string()]);
    let found = measured(bench.args(["--execs", &execs.to_string()]))?;
    let spread = |of: &Value, digits: usize| {
        let one = |name: &str| of[name].as_f64().unwrap_or_default();
        format!(
            "{:.digits$} ({:.digits$} to {:.digits$})",
            one("median"),
            one("low"),
            one("high")
        )
    };
    println!(
        "{:24} {:>24} {:>26}",
        "median (8 of 10 lie in)", "µs an exec", "of not loaded"
    );
    for row in rows(&found) {
        println!(
            "{:24} {:>24} {:>26}",
            row["name"].as_str().unwrap_or_default(),
            spread(&row["us"], 0),
            spread(&row["ratio"], 3)
        );
    }
    write("exec", &found)
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
