//! `cargo xtask bench`: what costs how much, as figures for people and for
//! programs. Asserts nothing: machines differ, and this one is busy.

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

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

/// See `bench/src/bind.rs`.
fn bind(runs: usize, bound: &str) -> Result<()> {
    let programs = build()?;
    let mut bench = Command::new(programs.join("execblock-bench"));
    bench.arg("bind").arg(programs.join("execblock"));
    bench.args(["--runs", &runs.to_string(), "--bound", bound]);
    // What it does meanwhile is seen.
    bench.stderr(Stdio::inherit());
    let found = bench.output().context("execblock-bench")?;
    if !found.status.success() {
        bail!("execblock-bench: {}", found.status);
    }
    let mut found: Value = serde_json::from_slice(&found.stdout)?;
    found["kernel"] = kernel()?.into();
    let bare = &found["bare"];
    println!(
        "{:>8} {:>18} {:>18} {:>18}",
        "", "not annotated", "bound", "unbound"
    );
    println!(
        "µs, median / p99; a plugin that does nothing: {}",
        times(bare)
    );
    for row in found["rows"].as_array().into_iter().flatten() {
        let [plain, bind, unbind] = ["unannotated", "bind", "unbind"].map(|name| times(&row[name]));
        println!("{:>8} {plain:>18} {bind:>18} {unbind:>18}", row["bound"]);
    }
    println!(
        "{:>8} {:>10} {:>10} {:>12}   daemon, KiB resident; ms",
        "", "empty", "full", "synchronize"
    );
    for row in found["rows"].as_array().into_iter().flatten() {
        let memory = &row["resident_kib"];
        println!(
            "{:>8} {:>10} {:>10} {:>12}",
            row["bound"], memory["empty"], memory["bound"], row["synchronize_ms"]
        );
    }
    write("bind", &found)
}

fn times(of: &Value) -> String {
    let one = |name: &str| of[name].as_f64().unwrap_or_default();
    format!("{:.0} / {:.0}", one("median"), one("p99"))
}

fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(release.trim().to_owned())
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

/// Durations of one kind.
struct Series {
    name: &'static str,
    /// The series whose median is what would have been spent anyway.
    base: Option<&'static str>,
    times: Vec<Duration>,
}

impl Series {
    fn new(name: &'static str, base: Option<&'static str>) -> Self {
        let times = Vec::new();
        Self { name, base, times }
    }

    /// The value that a share of all are not above, in microseconds.
    fn quantile(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a few hundred values"
        )]
        let index = (times.len() as f64 * share).ceil() as usize;
        let time = times.get(index.saturating_sub(1)).copied();
        time.unwrap_or_default().as_secs_f64() * 1e6
    }
}

const TRUE: &str = "/bin/true";
const UNANNOTATED: &str = "hook, no annotation";
const BIND: &str = "hook, createRuntime";
const POSTSTOP: &str = "hook, poststop";
const PLAIN: &str = "runc start";
const WRAPPED: &str = "wrapper start, no annotation";
const WRAPPED_BIND: &str = "wrapper start";
const WRAPPED_ASK: &str = "wrapper start, state asked for";

fn hooks(runs: usize) -> Result<()> {
    let programs = build()?;
    host::run_quietly(Command::new(programs.join("execblock")).arg("load"))?;
    let mut all = hook_series(&programs, runs)?;
    let needed = [("runc", "runc"), ("busybox", "busybox-static")];
    if host::missing_packages(&needed).is_empty() {
        all.extend(wrapper_series(&programs, runs)?);
    } else {
        println!("no runc or no static busybox here: the wrapper is left out");
    }
    host::run_quietly(Command::new(programs.join("execblock")).arg("unload"))?;
    report(&all, runs)
}

fn build() -> Result<PathBuf> {
    let packages = [
        "-p",
        "execblock-cli",
        "-p",
        "execblock-hooks",
        "-p",
        "execblock-bench",
    ];
    let mut cargo = host::cargo();
    let cargo = cargo.args(["build", "--release", "--bins"]).args(packages);
    host::run(cargo.current_dir(host::checkout()))?;
    Ok(host::target_directory()?.join("release"))
}

fn report(all: &[Series], runs: usize) -> Result<()> {
    println!("{:32} {:>10} {:>10} {:>10}", "µs", "median", "p99", "added");
    let mut rows = Vec::new();
    for series in all {
        let (median, p99) = (series.quantile(0.5), series.quantile(0.99));
        let base = all.iter().find(|other| Some(other.name) == series.base);
        let added = base.map(|base| median - base.quantile(0.5));
        let shown = added.map(|added| format!("{added:.0}")).unwrap_or_default();
        println!("{:32} {median:>10.0} {p99:>10.0} {shown:>10}", series.name);
        rows.push(json!({
            "name": series.name, "median_us": median, "p99_us": p99, "added_us": added,
        }));
    }
    write(
        "hooks",
        &json!({ "runs": runs, "kernel": kernel()?, "rows": rows }),
    )
}

/// Starts the command, gives it its input and waits for its end.
fn time(command: &mut Command, input: &str) -> Result<Duration> {
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // `true` doesn't read it.
        stdin.write_all(input.as_bytes()).ok();
    }
    let status = child.wait()?;
    let took = began.elapsed();
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(took)
}

/// Where cgroup v2 is mounted.
fn cgroups() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    mounts
        .find_map(|mut fields| {
            let at = fields.nth(1)?;
            (fields.next()? == "cgroup2").then(|| at.into())
        })
        .context("no cgroup2 mount")
}

/// A process in a cgroup, as a runtime makes it before it calls its hooks.
fn created(cgroup: &Path) -> Result<Child> {
    let script = "echo $$ > \"$0/cgroup.procs\" && echo && exec sleep 1000";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(cgroup)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = [0];
    let stdout = child.stdout.as_mut().context("no output")?;
    std::io::Read::read_exact(stdout, &mut ready).context("it did not join its cgroup")?;
    Ok(child)
}

fn hook_series(programs: &Path, runs: usize) -> Result<Vec<Series>> {
    let mut series = [
        Series::new(TRUE, None),
        Series::new(UNANNOTATED, Some(TRUE)),
        Series::new(BIND, Some(TRUE)),
        Series::new(POSTSTOP, Some(TRUE)),
    ];
    let bundle = tempfile::tempdir()?;
    let mut config = config(bundle.path())?;
    config["annotations"] = json!({});
    fs::write(bundle.path().join("config.json"), config.to_string())?;
    let id = "execblock-bench-hook";
    let cgroup = cgroups()?.join(id);
    fs::create_dir_all(&cgroup)?;
    let hook = programs.join("execblock-hook");
    for _ in 0..runs {
        let mut child = created(&cgroup)?;
        let state = |status: &str, annotations: Value| {
            json!({
                "ociVersion": "1.0.2", "id": id, "status": status, "bundle": bundle.path(),
                "pid": if status == "stopped" { 0 } else { child.id() },
                "annotations": annotations,
            })
            .to_string()
        };
        let bare = state("creating", json!({}));
        let annotated = state("creating", json!({ "execblock/deny": "whoami" }));
        let stopped = state("stopped", json!({ "execblock/deny": "whoami" }));
        let mut times = vec![
            time(&mut Command::new(TRUE), &bare)?,
            time(&mut Command::new(&hook), &bare)?,
            time(&mut Command::new(&hook), &annotated)?,
        ];
        child.kill()?;
        child.wait()?;
        times.push(time(&mut Command::new(&hook), &stopped)?);
        for (series, time) in series.iter_mut().zip(times) {
            series.times.push(time);
        }
    }
    fs::remove_dir(&cgroup)?;
    Ok(series.into())
}

/// A configuration of usual size.
fn config(folder: &Path) -> Result<Value> {
    if host::find_program("runc").is_none() {
        return Ok(json!({ "ociVersion": "1.0.2" }));
    }
    host::run_quietly(host::program("runc").arg("spec").current_dir(folder))?;
    Ok(serde_json::from_slice(&fs::read(
        folder.join("config.json"),
    )?)?)
}

/// A bundle of a static BusyBox that ends at once.
fn bundle(id: &str, annotations: Value) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let bin = folder.path().join("rootfs/bin");
    fs::create_dir_all(&bin)?;
    let busybox = host::find_program("busybox").context("no busybox")?;
    fs::copy(busybox, bin.join("true"))?;
    let mut config = config(folder.path())?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
    config["annotations"] = annotations;
    fs::write(folder.path().join("config.json"), config.to_string())?;
    Ok(folder)
}

fn wrapper_series(programs: &Path, count: usize) -> Result<Vec<Series>> {
    let mut series = [
        Series::new(PLAIN, None),
        Series::new(WRAPPED, Some(PLAIN)),
        Series::new(WRAPPED_BIND, Some(PLAIN)),
        Series::new(WRAPPED_ASK, Some(PLAIN)),
    ];
    let id = "execblock-bench";
    let bare = bundle(id, json!({}))?;
    let annotated = bundle(id, json!({ "execblock/deny": "whoami" }))?;
    let runc = host::find_program("runc").context("no runc")?;
    let wrapper = programs.join("execblock-runc");
    // By a name that says nothing of where it keeps its files.
    let links = tempfile::tempdir()?;
    symlink(&runc, links.path().join("other"))?;
    let asking = links.path().join("execblock-other");
    symlink(&wrapper, &asking)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", links.path().display(), path.to_string_lossy());
    let kinds = [
        (&runc, &bare),
        (&wrapper, &bare),
        (&wrapper, &annotated),
        (&asking, &annotated),
    ];
    for _ in 0..count {
        for (series, (program, bundle)) in series.iter_mut().zip(kinds) {
            let mut create = Command::new(&runc);
            // Its output stays open in the container.
            create.args(["create", id]).current_dir(bundle);
            create.stdin(Stdio::null()).stdout(Stdio::null());
            host::run(create.stderr(Stdio::null()))?;
            let mut start = Command::new(program);
            let took = time(start.args(["start", id]).env("PATH", &path), "");
            let mut delete = Command::new(&wrapper);
            host::run_quietly(delete.args(["delete", "-f", id]))?;
            series.times.push(took?);
        }
    }
    Ok(series.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut series = Series::new("x", None);
        assert!(series.quantile(0.5).abs() < 1e-9);
        series.times = (1..=200).rev().map(Duration::from_micros).collect();
        assert!((series.quantile(0.5) - 100.0).abs() < 1e-6);
        assert!((series.quantile(0.99) - 198.0).abs() < 1e-6);
        assert!((series.quantile(1.0) - 200.0).abs() < 1e-6);
    }
}
