//! What the hooks cost, in instructions: only where it is asked for by name, on a machine whose
//! clock counts them.
//!
//! The kernel's own statistics of BPF programs (`kernel.bpf_stats_enabled`) give the time that a
//! program ran, with the cost of taking it in it, and how often.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Case;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;

/// What a line of figures begins with.
const MARK: &str = "cost ";
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Programs that are run for one figure.
const RUNS: u64 = 20;

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    if !machine.filter.starts_with("cost") {
        return Vec::new();
    }
    let kernel = machine.kernel;
    let mechanisms = Mechanism::ALL.into_iter().filter(|one| kernel.has(*one));
    mechanisms
        .map(|mechanism| {
            Case::slow(format!("cost/{}", mechanism.name()), move |_| {
                costs(mechanism)
            })
        })
        .collect()
}

fn costs(mechanism: Mechanism) -> Result<()> {
    execblock::loaded(mechanism)?;
    fs::write(STATISTICS, "1").context(STATISTICS)?;
    let outside = Cgroup::own()?.child("outside")?;
    measure(mechanism, "host, nothing bound", &outside)?;
    let bound = Cgroup::own()?.child("bound")?;
    let query = format!("cgroup:{}", bound.path()?);
    let mut first = true;
    for (what, items) in policies() {
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        execblock::run(&[&["deny", &query], &items[..]].concat())?.success()?;
        if first {
            measure(mechanism, "host, another bound", &outside)?;
            first = false;
        }
        measure(mechanism, &format!("bound, {what}"), &bound)?;
        execblock::run(&["clear", &query])?.success()?;
    }
    let deep = (0..16).try_fold(bound, |above, _| above.child("x"))?;
    execblock::run(&["deny", &query, "whoami"])?.success()?;
    measure(mechanism, "bound, 1 name, 16 levels below", &deep)?;
    execblock::run(&["clear", &query])?.success()?;
    fs::write(STATISTICS, "0").context(STATISTICS)
}

/// Deny lists of one kind each, none of which has what is run.
fn policies() -> Vec<(String, Vec<String>)> {
    type Item = fn(u32) -> String;
    let kinds: [(&str, Item); 5] = [
        ("name", |n| format!("whoami{n}")),
        ("path", |n| format!("/usr/local/bin/whoami{n}")),
        ("directory", |n| format!("/opt/tools{n}/")),
        ("prefix", |n| format!("whoami{n}x*")),
        ("suffix", |n| format!("*x{n}whoami")),
    ];
    let mut policies = Vec::new();
    for (kind, item) in kinds {
        for count in [1, 1000] {
            policies.push((format!("{count} {kind}"), (0..count).map(item).collect()));
        }
    }
    policies
}

/// Instructions of one run of each of our programs, while programs are run in a cgroup.
fn measure(mechanism: Mechanism, what: &str, cgroup: &Cgroup) -> Result<()> {
    let before = statistics()?;
    let script = format!(
        "echo 0 > {}; i=0; while [ $i -lt {RUNS} ]; do /usr/bin/true; i=$((i+1)); done",
        cgroup.procs().display()
    );
    process::run(process::command("sh").args(["-c", &script]))?.success()?;
    let after = statistics()?;
    for (program, (time, runs)) in after {
        let (time_before, runs_before) = before.get(&program).copied().unwrap_or_default();
        let runs = runs - runs_before;
        if runs == 0 {
            continue;
        }
        ensure!(
            runs >= RUNS || program.contains("mprotect"),
            "{program} ran {runs} times"
        );
        let line = serde_json::json!({
            "mechanism": mechanism.name(),
            "what": what,
            "program": program,
            "instructions": (time - time_before) / runs,
            "runs": runs,
        });
        protocol::note(format_args!("{MARK}{line}"));
    }
    Ok(())
}

/// Time and runs of our programs, by name.
fn statistics() -> Result<BTreeMap<String, (u64, u64)>> {
    let mut bpftool = process::command("bpftool");
    let programs = process::run_unseen(bpftool.args(["-j", "prog", "show"]))?.success()?;
    let programs: Vec<Value> = serde_json::from_str(&programs.stdout)?;
    let ours = ["lsm_", "fmod_ret_", "kprobe_", "signal_exec", "fork"];
    let programs = programs.into_iter().filter_map(|program| {
        let name = program["name"].as_str()?.to_owned();
        let number = |field: &str| program[field].as_u64().unwrap_or(0);
        let ours = ours.iter().any(|start| name.starts_with(start));
        ours.then(|| (name, (number("run_time_ns"), number("run_cnt"))))
    });
    Ok(programs.collect())
}
