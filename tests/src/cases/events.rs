//! What is told of a refusal, and what becomes of events when there are too many.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::Case;
use super::mechanism::Scratch;
use crate::background::Background;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;

const LIMIT: Duration = Duration::from_mins(3);
const WHOAMI: &str = "/usr/bin/whoami";

/// What takes the events while a case has too many of them.
const READER: Background = Background::named("events");

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let kernel = machine.kernel;
    let mut cases = Vec::new();
    for mechanism in Mechanism::ALL.into_iter().filter(|one| kernel.has(*one)) {
        let name = mechanism.name();
        cases.push(Case::new(format!("events/fields/{name}"), move |_| {
            fields(mechanism)
        }));
        cases.push(Case::new(format!("events/once/{name}"), move |_| {
            once(mechanism)
        }));
    }
    if machine.runs_all() {
        cases.push(Case::new("events/flood", move |_| {
            flood(kernel.preferred())
        }));
    }
    cases
}

/// A bound cgroup with a rule of its own.
struct Target {
    cgroup: Cgroup,
    query: String,
    id: u64,
}

impl Target {
    fn denying(name: &str, items: &[&str]) -> Result<Self> {
        let cgroup = Cgroup::own()?.child(name)?;
        let query = format!("cgroup:{}", cgroup.path()?);
        execblock::run(&[&["deny", &query], items].concat())?.success()?;
        Ok(Self {
            query,
            id: cgroup.id()?,
            cgroup,
        })
    }

    fn shell(&self, script: &str) -> Result<process::Output> {
        let script = format!("echo 0 > {}; {script}", self.cgroup.procs().display());
        process::run(process::command("sh").args(["-c", &script]))
    }

    fn events(&self) -> Result<Vec<Value>> {
        let cgroup = format!("cgroup:{}", self.id);
        let output =
            execblock::run(&["events", "-o", "json", "--container", &cgroup])?.success()?;
        let lines = output.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// What its rules did, as the kernel has counted it.
    fn hits(&self) -> Result<u64> {
        let status = execblock::run(&["status", "--json", &self.query])?.success()?;
        let status: Value = serde_json::from_str(&status.stdout)?;
        status[0]["hits"].as_u64().context("no hits in the status")
    }
}

/// One refusal, in a pid namespace, with all that is told of it.
fn fields(mechanism: Mechanism) -> Result<()> {
    execblock::loaded(mechanism)?;
    let target = Target::denying("fields", &["who*"])?;
    target.shell("unshare --pid --fork sh -c '/usr/bin/../bin/whoami an argument; true'; true")?;
    let events = target.events()?;
    let [event] = events.as_slice() else {
        anyhow::bail!("not one event: {events:?}")
    };
    let shown = execblock::run(&["events", "--container", &format!("cgroup:{}", target.id)])?;
    protocol::note(shown.stdout.trim_end());
    protocol::note(event);
    let is_signal = mechanism == Mechanism::Signal;
    let requested = "/usr/bin/../bin/whoami";
    let mut expected = serde_json::json!({
        "event": "exec",
        "verdict": if is_signal { "killed" } else { "denied" },
        "mechanism": mechanism.name(),
        "rule": "who*",
        "list": "deny",
        "origin": "command-line",
        "matched": requested,
        "matched_by": "requested",
        "requested": requested,
        "resolved": "whoami",
        "argv0": requested,
        "container_pid": 2,
        "program": if is_signal { "whoami" } else { "sh" },
        "parent_program": "sh",
        "uid": 0,
        "session": null,
        "cgroup": target.id,
        "engine": "cgroup",
    });
    if mechanism == Mechanism::Kprobe {
        // Asked before the kernel has looked for the file.
        expected["resolved"] = "".into();
    }
    for (name, value) in expected.as_object().into_iter().flatten() {
        ensure!(
            event[name] == *value,
            "{name}: {}, expected {value}",
            event[name]
        );
    }
    ensure!(
        event["session_pid"] == event["parent_pid"],
        "the shell is the first process of its namespace"
    );
    ensure!(target.hits()? == 1, "{} hits", target.hits()?);
    Ok(())
}

/// A shell that goes through its PATH, and an audited program that several hooks see.
fn once(mechanism: Mechanism) -> Result<()> {
    execblock::loaded(mechanism)?;
    let target = Target::denying("once", &["whoami"])?;
    let scratch = Scratch::new()?;
    for dir in ["a", "b", "c"] {
        fs::copy(WHOAMI, scratch.dir(dir)?.join("whoami"))?;
    }
    let path = |dir| scratch.path(dir).display().to_string();
    let path = [path("a"), path("b"), path("c")].join(":");
    let before = refused()?;
    let script = format!("whoami; PATH={path}; whoami; whoami; true");
    target.shell(&script)?;
    let attempts = refused()? - before;
    let events = target.events()?;
    protocol::note(format_args!("{attempts} attempts, {} events", events.len()));
    ensure!(events.len() == 3, "not three events: {events:?}");
    ensure!(target.hits()? == 3, "{} hits", target.hits()?);
    // A killed one can't go on.
    ensure!(
        attempts > 3 || mechanism == Mechanism::Signal,
        "the shell did not go through its PATH, so that this showed nothing"
    );
    audited(mechanism)
}

fn audited(mechanism: Mechanism) -> Result<()> {
    let name = format!("audited-{}", mechanism.name());
    let scratch = Scratch::new()?;
    let program = scratch.path(&name);
    fs::copy(WHOAMI, &program)?;
    let program = program.display().to_string();
    let run = [
        "run",
        "--audit",
        "--deny",
        &name,
        "--mechanism",
        mechanism.name(),
        "--",
    ];
    let output = execblock::run(&[&run[..], &[&program]].concat())?.success()?;
    ensure!(output.stdout == "root\n", "{}", output.said());
    let events = execblock::run(&["events", "-o", "json", "--container", &name])?.success()?;
    let verdicts: Vec<Value> = events
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(
        verdicts.len() == 1 && verdicts[0]["verdict"] == "audited",
        "not one audited program: {}",
        events.stdout
    );
    Ok(())
}

/// Programs that were refused or killed, whether they were told or not.
fn refused() -> Result<u64> {
    let map = format!("{}/stats", execblock::PINS);
    let mut bpftool = process::command("bpftool");
    let dump =
        process::run_unseen(bpftool.args(["-j", "map", "dump", "pinned", &map]))?.success()?;
    let dump: Value = serde_json::from_str(&dump.stdout)?;
    let cpus = dump[0]["formatted"]["values"]
        .as_array()
        .context("no values of CPUs")?;
    let count = |cpu: &Value, name: &str| cpu["value"][name].as_u64().unwrap_or(0);
    let cpus = cpus.iter();
    Ok(cpus
        .map(|cpu| count(cpu, "denied") + count(cpu, "killed"))
        .sum())
}

/// Ends with its case, however that ends.
struct Stopped(&'static Background);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = self.0.stop(Signal::INT) {
            protocol::log(format_args!("{error:#}"));
        }
    }
}

/// A container that tries a denied program in a loop, beside one that does so now and then.
fn flood(mechanism: Mechanism) -> Result<()> {
    const TIMES: u64 = 10_000;
    const QUIET: u64 = 20;
    execblock::loaded(mechanism)?;
    let again = Path::new("/payload/helpers/again");
    ensure!(again.exists(), "{} is not there", again.display());
    let noisy = Target::denying("noisy", &["whoami"])?;
    let quiet = Target::denying("quiet", &["whoami"])?;
    READER.start(execblock::command().args(["events", "--follow"]))?;
    let _reader = Stopped(&READER);
    let loop_of = |times: u64| format!("exec {} {times} {WHOAMI}", again.display());
    let procs = noisy.cgroup.procs();
    let script = format!("echo 0 > {}; {}", procs.display(), loop_of(TIMES));
    let mut flooding = process::command("sh");
    let flooding = flooding
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped());
    let flooding = flooding.spawn()?;
    for _ in 0..QUIET {
        let said = quiet.shell(&loop_of(1))?;
        ensure!(said.stdout == "1\n", "not refused: {}", said.said());
    }
    let flooding = flooding.wait_with_output()?;
    ensure!(
        String::from_utf8_lossy(&flooding.stdout).trim() == TIMES.to_string(),
        "the flood was not refused each time: {flooding:?}"
    );
    // Told within a second, by whoever took the last event.
    let told = process::until(LIMIT, "the loss to be told", || {
        let events = noisy.events()?;
        let lost = events.iter().filter(|event| event["event"] == "lost");
        let lost: u64 = lost.filter_map(|event| event["lost"].as_u64()).sum();
        let sent = events
            .iter()
            .filter(|event| event["event"] == "exec")
            .count() as u64;
        if sent + lost != TIMES {
            bail!("{sent} events and {lost} lost of {TIMES} attempts");
        }
        Ok(Some((sent, lost)))
    })
    .inspect_err(|_| READER.show_log())?;
    let (sent, lost) = told;
    let of_quiet = quiet.events()?;
    protocol::note(format_args!(
        "flood: {TIMES} attempts, {sent} events, {lost} lost and told; beside it {QUIET} attempts, \
         {} events",
        of_quiet.len()
    ));
    ensure!(lost > 0, "nothing was lost, so that this showed nothing");
    ensure!(
        of_quiet.len() as u64 == QUIET,
        "the other's events: {of_quiet:?}"
    );
    ensure!(
        noisy.hits()? == TIMES && quiet.hits()? == QUIET,
        "the counters"
    );
    Ok(())
}
