//! What an exec takes by the guest's clock, without the programs and with them: asked for by name,
//! on a machine whose clock counts instructions. `cargo xtask bench clock` makes a table of it.
//!
//! Each round has every situation in it, and what is compared are the situations of one round;
//! nothing loaded comes first.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::Case;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;

const ROUNDS: u32 = 5;
/// A fork, an exec and an end each.
const EXECS: u32 = 200;
/// Names that are denied in a bound cgroup.
const DENIED: [usize; 2] = [1, 1000];

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    if !machine.filter.starts_with("clock") {
        return Vec::new();
    }
    let usual = machine.kernel.usual();
    usual
        .map(|one| Case::slow(format!("clock/{}", one.name()), move |_| measure(one)))
        .collect()
}

/// Microseconds of an exec, a value for each round.
struct Row {
    situation: String,
    times: Vec<f64>,
}

fn measure(mechanism: Mechanism) -> Result<()> {
    let (host, bound) = (
        Cgroup::own()?.child("host")?,
        Cgroup::own()?.child("bound")?,
    );
    let query = format!("cgroup:{}", bound.path()?);
    let mut rows: Vec<Row> = Vec::new();
    let mut took = |place: usize, situation: &str, time: f64| match rows.get_mut(place) {
        Some(row) => row.times.push(time),
        None => rows.push(Row {
            situation: situation.to_owned(),
            times: vec![time],
        }),
    };
    for _ in 0..ROUNDS {
        execblock::unloaded()?;
        took(0, "not loaded", settled(&host)?);
        execblock::loaded(mechanism)?;
        took(1, "loaded, host", settled(&host)?);
        for (index, denied) in DENIED.into_iter().enumerate() {
            let names: Vec<_> = (0..denied)
                .map(|number| format!("whoami{number}"))
                .collect();
            let mut words = vec!["deny", &query];
            words.extend(names.iter().map(String::as_str));
            execblock::run(&words)?.success()?;
            took(
                2 + index,
                &format!("bound, {denied} names"),
                settled(&bound)?,
            );
            execblock::run(&["clear", &query])?.success()?;
        }
    }
    for Row { situation, times } in rows {
        protocol::figure(&json!({
            "mechanism": mechanism.name(), "name": situation, "us": times,
        }));
    }
    Ok(())
}

/// Microseconds of one exec, behind as many that are not counted: what the kernel has to do
/// after programs were loaded or taken away, it does with the first.
fn settled(cgroup: &Cgroup) -> Result<f64> {
    execs_in(cgroup)?;
    execs_in(cgroup)
}

/// Microseconds of one exec.
fn execs_in(cgroup: &Cgroup) -> Result<f64> {
    let procs = cgroup.procs();
    let script = format!(
        "echo 0 > {}; i=0; while [ $i -lt {EXECS} ]; do /usr/bin/true; i=$((i+1)); done",
        procs.display()
    );
    let began = Instant::now();
    process::run(process::command("sh").args(["-c", &script]))?.success()?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(EXECS))
}
