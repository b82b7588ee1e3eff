//! The evasion suite: ways of getting a denied program to run, tried in real containers under each
//! mechanism, each with what is to become of it. docs/threat-model.md has the outcome as a table.
//!
//! Each policy has one container, in which all techniques against it are run one after another. A
//! twin without rules runs them first: what does not run the program there proves nothing.

mod container;
mod image;
mod links;
mod memory;
mod syscalls;
mod technique;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use self::container::Container;
use self::technique::{Policy, Row, Technique};
use self::verdict::{Said, Verdict, judge};
use super::Case;
use crate::execblock;
use crate::machine::{Kernel, Machine, Mechanism};
use crate::protocol;

/// What the techniques did in the twin, so that each machine asks it once.
const TWIN: &str = "/run/vmtest/evasion-twin.json";

const GROUPS: &[(&str, &[Technique])] = &[
    ("syscalls", syscalls::TECHNIQUES),
    ("links", links::TECHNIQUES),
    ("memory", memory::TECHNIQUES),
];

/// Which mechanism is attacked on which machine: each once, and the preferred one on a second
/// kernel.
fn mechanisms(machine: &Machine) -> &'static [Mechanism] {
    match (machine.kernel, machine.userland.as_str()) {
        (Kernel::V6_12, "trixie") => &[Mechanism::Lsm, Mechanism::Signal],
        (Kernel::NoLsm, "trixie") => &[Mechanism::FmodRet],
        (Kernel::Override, "trixie") => &[Mechanism::Kprobe],
        (Kernel::V7_3, "forky") => &[Mechanism::Lsm],
        _ => &[],
    }
}

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = Vec::new();
    for &mechanism in mechanisms(machine) {
        for policy in Policy::ALL {
            let name = format!("evasion/{}/{}", mechanism.name(), policy.name());
            cases.push(Case::slow(name, move |machine| {
                attack(machine, mechanism, policy)
            }));
        }
    }
    cases
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for &(group, techniques) in GROUPS {
        for technique in techniques {
            rows.extend(technique.against.iter().map(|&(policy, expect)| Row {
                group,
                technique,
                policy,
                expect,
            }));
        }
    }
    rows
}

fn attack(machine: &Machine, mechanism: Mechanism, policy: Policy) -> Result<()> {
    execblock::loaded(mechanism)?;
    container::prepare()?;
    let alone = twin()?;
    let rows: Vec<_> = rows().into_iter().filter(|row| row.policy == policy).collect();
    let bound = Container::start(policy.name(), policy.annotations())?.run(&rows)?;
    let mut wrong = Vec::new();
    for row in &rows {
        let id = row.id();
        let without = alone.get(&id).context("the twin did not run it")?;
        let with = bound.get(&id).context("it was not run")?;
        protocol::log(format_args!("{id}: {}, {:?}", with.end, with.output));
        let (without, with) = (without.verdict(), with.verdict());
        let shown = match &without {
            Verdict::NotApplicable(_) => &without,
            _ => &with,
        };
        protocol::note(format_args!(
            "evasion {}/{} {} {id}: {shown}",
            machine.kernel.name(),
            machine.userland,
            mechanism.name(),
        ));
        if let Some(problem) = judge(mechanism, row.expect, &without, &with) {
            wrong.push(format!("{id} {problem}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// What all techniques do where no rule holds.
fn twin() -> Result<BTreeMap<String, Said>> {
    if Path::new(TWIN).exists() {
        return Ok(serde_json::from_slice(&fs::read(TWIN)?)?);
    }
    let results = Container::start("twin", &[])?.run(&rows())?;
    fs::write(TWIN, serde_json::to_vec(&results)?)?;
    Ok(results)
}
