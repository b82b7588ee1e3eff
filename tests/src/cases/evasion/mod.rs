//! The evasion suite: ways of getting a denied program to run, tried in real containers under each
//! mechanism, each with what is to become of it. docs/threat-model.md has the outcome as a table.
//!
//! Each policy has one container, in which all techniques against it are run one after another. A
//! twin without rules runs them first: what does not run the program there proves nothing.

mod allow;
mod cgroups;
mod container;
mod drift;
mod image;
mod links;
mod loader;
mod memory;
mod multicall;
mod paths;
mod processes;
mod scripts;
mod syscalls;
mod technique;
mod twins;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use self::technique::{Described, Policy, Row, Technique};
use self::verdict::{Said, Verdict, judge};
use super::Case;
use crate::execblock::{self, PINS};
use crate::machine::{Kernel, Machine, Mechanism};
use crate::process;
use crate::protocol;

/// What the techniques did in a twin, so that each machine asks it once.
const TWIN: &str = "/run/vmtest/evasion-twin";

const GROUPS: &[(&str, &[Technique])] = &[
    ("syscalls", syscalls::TECHNIQUES),
    ("paths", paths::TECHNIQUES),
    ("links", links::TECHNIQUES),
    ("scripts", scripts::TECHNIQUES),
    ("multicall", multicall::TECHNIQUES),
    ("loader", loader::TECHNIQUES),
    ("memory", memory::TECHNIQUES),
    ("drift", drift::TECHNIQUES),
    ("allow", allow::TECHNIQUES),
    ("processes", processes::TECHNIQUES),
    ("cgroups", cgroups::TECHNIQUES),
    ("twins", twins::TECHNIQUES),
];

/// Whether the suite is asked for by its name. Else only a part of it is run, for its time.
fn is_asked_for(machine: &Machine) -> bool {
    machine.filter.contains("evasion")
}

/// Which mechanism is attacked on which machine: each once, and the preferred one on a second
/// kernel. The machine with the fewest other cases has two.
fn mechanisms(machine: &Machine) -> &'static [Mechanism] {
    match (machine.kernel, machine.userland.as_str()) {
        (Kernel::V6_12, "trixie") => &[Mechanism::Lsm],
        (Kernel::Override, "trixie") => &[Mechanism::Kprobe],
        _ if !is_asked_for(machine) => &[],
        (Kernel::NoLsm, "trixie") => &[Mechanism::FmodRet, Mechanism::Signal],
        (Kernel::V7_3, "forky") => &[Mechanism::Lsm, Mechanism::FmodRet, Mechanism::Signal],
        (Kernel::Ubuntu6_8, _) => &[Mechanism::FmodRet, Mechanism::Kprobe, Mechanism::Signal],
        (Kernel::Ubuntu7_0, _) => &[Mechanism::Lsm, Mechanism::FmodRet, Mechanism::Kprobe],
        _ => &[],
    }
}

/// The policies that have most techniques between them, where not all are asked for.
const FEW: [Policy; 4] = [
    Policy::Name,
    Policy::AllowPath,
    Policy::DriftName,
    Policy::Host,
];

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = Vec::new();
    for &mechanism in mechanisms(machine) {
        let asked = is_asked_for(machine);
        let policies = Policy::ALL.into_iter();
        for policy in policies.filter(|policy| asked || FEW.contains(policy)) {
            let name = format!("evasion/{}/{}", mechanism.name(), policy.name());
            cases.push(Case::slow(name, move |machine| {
                attack(machine, mechanism, policy)
            }));
        }
        let name = format!("evasion/{}/exec", mechanism.name());
        cases.push(Case::slow(name, move |_| engine_exec(mechanism)));
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

/// The suite as `cargo xtask vm evasion` wants it.
pub(crate) fn describe() -> Vec<Described> {
    rows().iter().map(Row::describe).collect()
}

fn attack(machine: &Machine, mechanism: Mechanism, policy: Policy) -> Result<()> {
    let began = Instant::now();
    execblock::loaded(mechanism)?;
    protocol::note(format_args!("loaded in {} ms", began.elapsed().as_millis()));
    container::prepare()?;
    let alone = twin(policy.on_host())?;
    let mut rows = rows();
    rows.retain(|row| row.policy == policy);
    let bound = container::run(policy.name(), policy.annotations(), policy.on_host(), &rows)?;
    let mut wrong = Vec::new();
    for row in &rows {
        let id = row.id();
        let without = alone.get(&row.proof()).context("the twin did not run it")?;
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
    if !wrong.is_empty() {
        // What the programs counted tells why.
        let mut show = process::command("bpftool");
        process::run(show.args(["prog", "show"]))?;
        let mut dump = process::command("bpftool");
        process::run(dump.args(["map", "dump", "pinned", &format!("{PINS}/stats")]))?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// What the engine itself is asked to run in a container, as `kubectl exec` does: the program and the
/// runtime on its way there are held against allow-list and drift too.
fn engine_exec(mechanism: Mechanism) -> Result<()> {
    execblock::loaded(mechanism)?;
    container::prepare()?;
    for (policy, permitted, refused) in [
        (Policy::Allow, "/opt/ok/program", "/opt/static/other"),
        (Policy::Drift, "/opt/static/other", "/vol/other/tool"),
    ] {
        let container = container::detached(policy.name(), policy.annotations())?;
        let output = container.exec("permitted", permitted)?;
        ensure!(
            output.said().contains("EVASION-MARK"),
            "{}: {permitted} did not run: {}",
            policy.name(),
            output.said()
        );
        let output = container.exec("refused", refused)?;
        let said = output.said();
        // runc tells EPERM; or it was killed before its first instruction.
        let stopped = said.to_lowercase().contains("operation not permitted")
            || output.code() == Some(128 + libc::SIGKILL);
        ensure!(
            stopped && !said.contains("EVASION-MARK"),
            "{}: {refused} was not refused: {:?} {said}",
            policy.name(),
            output.code()
        );
    }
    Ok(())
}

/// What all techniques do where no rule holds.
fn twin(on_host: bool) -> Result<BTreeMap<String, Said>> {
    let file = format!("{TWIN}-{on_host}.json");
    if Path::new(&file).exists() {
        return Ok(serde_json::from_slice(&fs::read(&file)?)?);
    }
    let mut rows = rows();
    let mut seen = BTreeSet::new();
    rows.retain(|row| row.policy.on_host() == on_host && seen.insert(row.proof()));
    let results: BTreeMap<_, _> = container::run("twin", &[], on_host, &rows)?
        .into_iter()
        .filter_map(|(id, said)| Some((rows.iter().find(|row| row.id() == id)?.proof(), said)))
        .collect();
    fs::write(&file, serde_json::to_vec(&results)?)?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Mechanism;

    #[test]
    fn each_row_has_a_name_of_its_own() {
        let rows = rows();
        let names: BTreeSet<_> = rows.iter().map(Row::id).collect();
        assert_eq!(names.len(), rows.len());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/@".contains(c);
        assert!(names.iter().all(|name| name.chars().all(plain)));
        let techniques: BTreeSet<_> = rows.iter().map(|row| row.technique.about).collect();
        assert!(techniques.len() > 110, "{} techniques", techniques.len());
    }

    #[test]
    fn the_page_lists_what_is_tried_and_nothing_else() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threat-model.md");
        let page = fs::read_to_string(page).unwrap();
        let made = page.split("<!--").nth(1).unwrap();
        let mut listed = BTreeSet::new();
        for line in made.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            if cells[1].contains('/') {
                let policies = cells[2].split(", ");
                listed.extend(policies.map(|policy| format!("{}@{policy}", cells[1])));
            }
        }
        let tried: BTreeSet<_> = rows().iter().map(Row::id).collect();
        let (missing, gone): (Vec<_>, Vec<_>) = (
            tried.difference(&listed).collect(),
            listed.difference(&tried).collect(),
        );
        assert!(
            missing.is_empty() && gone.is_empty(),
            "docs/threat-model.md lacks {missing:?} and has {gone:?}: \
             run `cargo xtask vm evasion --write-docs`"
        );
    }

    #[test]
    fn each_mechanism_is_attacked_on_some_machine() {
        let attacked: Vec<_> = Kernel::ALL
            .into_iter()
            .flat_map(|kernel| ["trixie", "forky"].map(|userland| (kernel, userland)))
            .flat_map(|(kernel, userland)| {
                let words = format!(
                    "execblock.kernel={} execblock.userland={userland} execblock.filter=evasion/",
                    kernel.name()
                );
                mechanisms(&Machine::parse(&words).unwrap())
            })
            .collect();
        assert!(Mechanism::ALL.iter().all(|one| attacked.contains(&one)));
    }
}
