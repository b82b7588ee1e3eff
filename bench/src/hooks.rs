//! What hook and wrapper add to a container's start: from the start of each program to its end.

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use execblock::cgroup::Hierarchy;
use execblock_bench::crowd::Crowd;
use serde_json::{Value, json};

use crate::bound::{self, Policies};
use crate::series::{Summary, summary};
use crate::{progress, quietly};

/// Where the programs are.
pub(crate) struct Programs<'a> {
    /// The folder of those that are measured.
    pub(crate) ours: &'a Path,
    /// Without it the wrapper is left out, and the hook's configuration is a small one.
    pub(crate) runc: Option<&'a Path>,
    /// A static one, for the container.
    pub(crate) busybox: Option<&'a Path>,
}

const TRUE: &str = "/bin/true";
const PLAIN: &str = "runc start";
/// Of the containers that are bound before.
const BEFORE: Policies = Policies {
    policies: 1,
    rules: 3,
};

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
}

pub(crate) fn measure(programs: &Programs<'_>, counts: &[usize], runs: usize) -> Result<Value> {
    if programs.runc.is_none() || programs.busybox.is_none() {
        progress("no runc or no static busybox here: the wrapper is left out");
    }
    let execblock = programs.ours.join("execblock");
    let mut crowd = Crowd::new("execblock-bench-hooks", 0)?;
    let mut all = Vec::new();
    for &count in counts {
        crowd.grow(count)?;
        bound::unload(&execblock)?;
        let daemon = bound::daemon(&execblock)?;
        daemon.synchronize(Vec::new(), Vec::new())?;
        BEFORE.bind(&daemon, &crowd, count)?;
        // What it bound stays, and neither hook nor wrapper needs it.
        drop(daemon);
        let mut series = hook(programs, runs)?;
        if let Some((runc, busybox)) = programs.runc.zip(programs.busybox) {
            series.extend(wrapper(programs.ours, runc, busybox, runs)?);
        }
        let rows = rows(count, series);
        for row in &rows {
            progress(&row.to_string());
        }
        all.extend(rows);
    }
    bound::unload(&execblock)?;
    Ok(json!({ "runs": runs, "rows": all }))
}

fn rows(bound: usize, all: Vec<Series>) -> Vec<Value> {
    let all: Vec<(Series, Summary)> = all
        .into_iter()
        .map(|mut series| {
            let times = std::mem::take(&mut series.times);
            (series, summary(times))
        })
        .collect();
    let row = |(series, times): &(Series, Summary)| {
        let base = all
            .iter()
            .find(|(other, _)| Some(other.name) == series.base);
        let added = base.map(|(_, base)| times.median - base.median);
        json!({ "bound": bound, "name": series.name, "times": times, "added": added })
    };
    all.iter().map(row).collect()
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
    ensure!(status.success(), "{command:?}: {status}");
    Ok(took)
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
    stdout
        .read_exact(&mut ready)
        .context("it did not join its cgroup")?;
    Ok(child)
}

fn hook(programs: &Programs<'_>, runs: usize) -> Result<Vec<Series>> {
    let mut series = [
        Series::new(TRUE, None),
        Series::new("hook, no annotation", Some(TRUE)),
        Series::new("hook, createRuntime", Some(TRUE)),
        Series::new("hook, poststop", Some(TRUE)),
    ];
    let bundle = tempfile::tempdir()?;
    let mut config = config(programs.runc, bundle.path())?;
    config["annotations"] = json!({});
    fs::write(bundle.path().join("config.json"), config.to_string())?;
    let id = "execblock-bench-hook";
    let cgroup = Hierarchy::find()?.mount().join(id);
    fs::create_dir_all(&cgroup)?;
    let hook = programs.ours.join("execblock-hook");
    for run in 0..runs {
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
        let kinds = [
            (Path::new(TRUE), &bare),
            (&hook, &bare),
            (&hook, &annotated),
        ];
        // Each is the first as often as the others: the process above is still starting.
        for turn in 0..kinds.len() {
            let kind = (run + turn) % kinds.len();
            let (program, state) = kinds[kind];
            let took = time(&mut Command::new(program), state)?;
            series[kind].times.push(took);
        }
        child.kill()?;
        child.wait()?;
        let took = time(&mut Command::new(&hook), &stopped)?;
        series[kinds.len()].times.push(took);
    }
    fs::remove_dir(&cgroup)?;
    Ok(series.into())
}

/// A configuration of usual size.
fn config(runc: Option<&Path>, folder: &Path) -> Result<Value> {
    let Some(runc) = runc else {
        return Ok(json!({ "ociVersion": "1.0.2" }));
    };
    quietly(Command::new(runc).arg("spec").current_dir(folder))?;
    let config = fs::read(folder.join("config.json"))?;
    Ok(serde_json::from_slice(&config)?)
}

/// A bundle of a static BusyBox that ends at once.
fn bundle(runc: &Path, busybox: &Path, id: &str, annotations: Value) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let bin = folder.path().join("rootfs/bin");
    fs::create_dir_all(&bin)?;
    fs::copy(busybox, bin.join("true"))?;
    let mut config = config(Some(runc), folder.path())?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
    config["annotations"] = annotations;
    fs::write(folder.path().join("config.json"), config.to_string())?;
    Ok(folder)
}

fn wrapper(ours: &Path, runc: &Path, busybox: &Path, count: usize) -> Result<Vec<Series>> {
    let mut series = [
        Series::new(PLAIN, None),
        Series::new("wrapper start, no annotation", Some(PLAIN)),
        Series::new("wrapper start", Some(PLAIN)),
        Series::new("wrapper start, state asked for", Some(PLAIN)),
    ];
    let id = "execblock-bench";
    let bare = bundle(runc, busybox, id, json!({}))?;
    let annotated = bundle(runc, busybox, id, json!({ "execblock/deny": "whoami" }))?;
    let wrapper = ours.join("execblock-runc");
    // By a name that says nothing of where it keeps its files.
    let links = tempfile::tempdir()?;
    symlink(runc, links.path().join("other"))?;
    let asking = links.path().join("execblock-other");
    symlink(wrapper.as_path(), &asking)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", links.path().display(), path.to_string_lossy());
    let kinds = [
        (runc, &bare),
        (wrapper.as_path(), &bare),
        (wrapper.as_path(), &annotated),
        (asking.as_path(), &annotated),
    ];
    for _ in 0..count {
        for (series, (program, bundle)) in series.iter_mut().zip(kinds) {
            let mut create = Command::new(runc);
            // Its output stays open in the container.
            create.args(["create", id]).current_dir(bundle);
            create.stdin(Stdio::null()).stdout(Stdio::null());
            let created = create.stderr(Stdio::null()).status()?;
            ensure!(created.success(), "{create:?}: {created}");
            let mut start = Command::new(program);
            let took = time(start.args(["start", id]).env("PATH", &path), "");
            let mut delete = Command::new(&wrapper);
            quietly(delete.args(["delete", "-f", id]))?;
            series.times.push(took?);
        }
    }
    Ok(series.into())
}
