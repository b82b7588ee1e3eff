//! What binding costs: from the request to its answer, and the daemon's memory, with so many
//! containers bound before.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use execblock_bench::crowd::Crowd;
use execblock_bench::runtime::{Runtime, container, pod};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::bound::{self, Policies, TIMEOUT};
use crate::kernel;
use crate::progress;
use crate::series::{Summary, summary};

const NOTHING: [(&str, String); 0] = [];

pub(crate) fn measure(
    execblock: &Path,
    counts: &[usize],
    runs: usize,
    policies: Policies,
) -> Result<Value> {
    let mut crowd = Crowd::new("execblock-bench", 0)?;
    let own = env::current_exe()?;
    let bare = Runtime::start(
        |socket| {
            let mut command = Command::new(&own);
            command.arg("bare").arg(socket);
            command
        },
        TIMEOUT,
    )?;
    bare.synchronize(Vec::new(), Vec::new())?;
    crowd.grow(runs)?;
    let (nothing, _) = cycle(&bare, &mut crowd, 0, None)?;
    drop(bare);
    progress(&format!("a plugin that does nothing: {nothing:?}"));

    let mut rows = Vec::new();
    for &count in counts {
        let row = at(execblock, &mut crowd, count, runs, policies)?;
        progress(&row.to_string());
        rows.push(row);
    }
    Ok(json!({ "bare": nothing, "rows": rows }))
}

/// With that many bound before.
fn at(
    execblock: &Path,
    crowd: &mut Crowd,
    count: usize,
    runs: usize,
    policies: Policies,
) -> Result<Value> {
    crowd.grow(count + runs)?;
    bound::unload(execblock)?;
    let began = Instant::now();
    let daemon = bound::daemon(execblock)?;
    let first = began.elapsed();
    daemon.synchronize(Vec::new(), Vec::new())?;
    let empty = resident(daemon.plugin())?;
    policies.bind(&daemon, crowd, count)?;
    let full = resident(daemon.plugin())?;
    let (plain, _) = cycle(&daemon, crowd, count, None)?;
    let (bind, unbind) = cycle(&daemon, crowd, count, Some(policies))?;
    let (direct, run) = started(execblock, runs)?;
    let kernel = kernel::memory()?;
    crowd.shrink(count);
    drop(daemon);

    // The next one finds what is bound, and is told the same again.
    let began = Instant::now();
    let daemon = bound::daemon(execblock)?;
    let registered = began.elapsed();
    let pods = (0..count).map(pod).collect();
    let containers = (0..count)
        .map(|number| policies.annotated(number, crowd))
        .collect();
    let began = Instant::now();
    daemon.synchronize(pods, containers)?;
    let synchronized = began.elapsed();
    if let Some(member) = crowd.members().first() {
        // One that it does not know: answered behind all that it has to do.
        let nobody = container(count, member, &NOTHING);
        daemon.remove_container(&pod(count), &nobody)?;
    }
    let restarted = resident(daemon.plugin())?;
    drop(daemon);
    bound::unload(execblock)?;
    Ok(json!({
        "bound": count, "unannotated": plain, "bind": bind, "unbind": unbind,
        "load_and_register_ms": first.as_millis(),
        "restart_register_ms": registered.as_millis(),
        "synchronize_ms": synchronized.as_millis(),
        "direct": direct, "run": run, "kernel": kernel,
        "resident_kib": { "empty": empty, "bound": full, "restarted": restarted },
    }))
}

/// From its start to the first line of the command, without and with `execblock run`.
fn started(execblock: &Path, runs: usize) -> Result<(Summary, Summary)> {
    let own = env::current_exe()?;
    let (mut direct, mut run) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut command = Command::new(&own);
        direct.push(first_line(command.arg("now"))?);
        let mut command = Command::new(execblock);
        command.args(["run", "--deny", "whoami", "--"]).arg(&own);
        run.push(first_line(command.arg("now"))?);
    }
    Ok((summary(direct), summary(run)))
}

/// By the clock that both read.
fn first_line(command: &mut Command) -> Result<Duration> {
    let began = now();
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    let then: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Duration::from_nanos(then.saturating_sub(began)))
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Starts and removes those after the first `skip`, each by itself.
fn cycle(
    runtime: &Runtime,
    crowd: &mut Crowd,
    skip: usize,
    policies: Option<Policies>,
) -> Result<(Summary, Summary)> {
    let (mut starts, mut removes) = (Vec::new(), Vec::new());
    for (number, member) in crowd.members_mut().iter_mut().enumerate().skip(skip) {
        let annotations = policies
            .into_iter()
            .flat_map(|policies| policies.of(number));
        let annotations: Vec<_> = annotations.collect();
        let (pod, container) = (pod(number), container(number, member, &annotations));
        let began = Instant::now();
        runtime.start_container(&pod, &container)?;
        starts.push(began.elapsed());
        if policies.is_some() {
            // Else it stays under its rules.
            member.end();
        }
        let began = Instant::now();
        runtime.remove_container(&pod, &container)?;
        removes.push(began.elapsed());
    }
    ensure!(!starts.is_empty(), "nothing was measured");
    Ok((summary(starts), summary(removes)))
}

/// In KiB.
fn resident(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}
