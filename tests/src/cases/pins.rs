//! Loading, unloading and what lies in the BPF file system.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Case;
use super::mechanism::{exec, expect, refused, runs};
use crate::execblock::{self, PINS};
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;

const MAPS: [&str; 7] = [
    "containers",
    "rules",
    "rules_long",
    "policies",
    "stats",
    "events",
    "config",
];

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = vec![
        Case::new("pins/auto", auto),
        Case::new("pins/layout", layout),
        Case::new("pins/load-twice", load_twice),
        Case::new("pins/unload", unload),
        Case::new("pins/dump", dump),
        Case::new("pins/capacity", capacity),
        Case::new("pins/capacity-of-run", capacity_of_run),
    ];
    if machine.kernel.preferred() != Mechanism::Signal {
        cases.push(Case::new("pins/change-mechanism", change_mechanism));
    }
    cases
}

fn auto(machine: &Machine) -> Result<()> {
    execblock::unloaded()?;
    let output = execblock::run(&["load"])?.success()?;
    let expected = machine.kernel.preferred().name();
    ensure!(
        output.said().contains(expected),
        "expected {expected}: {}",
        output.said()
    );
    execblock::unloaded()?;
    let output = execblock::run(&["load", "--mechanism", "auto"])?.success()?;
    ensure!(
        output.said().contains(expected),
        "expected {expected}: {}",
        output.said()
    );
    execblock::unloaded()
}

fn layout(machine: &Machine) -> Result<()> {
    execblock::loaded(machine.kernel.preferred())?;
    let mode = fs::metadata(PINS)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o700, "{PINS} has mode {mode:o}");
    for map in MAPS {
        ensure!(Path::new(PINS).join(map).exists(), "no {map}");
    }
    let links = names(&Path::new(PINS).join("links"))?;
    ensure!(!links.is_empty(), "no links");
    protocol::note(format_args!(
        "links of {}: {links:?}",
        machine.kernel.preferred().name()
    ));
    Ok(())
}

/// A second load changes nothing, and enforcement goes on.
fn load_twice(machine: &Machine) -> Result<()> {
    let mechanism = machine.kernel.preferred();
    execblock::unloaded()?;
    execblock::loaded(mechanism)?;
    let before = (
        programs()?,
        names(Path::new(PINS))?,
        names(&Path::new(PINS).join("links"))?,
    );
    for _ in 0..2 {
        execblock::run(&["load"])?.success()?;
        execblock::run(&["load", "--mechanism", mechanism.name()])?.success()?;
    }
    let after = (
        programs()?,
        names(Path::new(PINS))?,
        names(&Path::new(PINS).join("links"))?,
    );
    ensure!(
        before.0.len() == after.0.len(),
        "programs: {} then {}",
        before.0.len(),
        after.0.len()
    );
    ensure!(
        before.1 == after.1 && before.2 == after.2,
        "pins: {before:?} then {after:?}"
    );
    let checks = [
        refused("by path", exec("/usr/bin/whoami")),
        runs("another", exec("/usr/bin/id")),
    ];
    expect(mechanism, &["--deny", "whoami"], &checks)
}

/// Nothing of it is left in the kernel.
fn unload(machine: &Machine) -> Result<()> {
    execblock::unloaded()?;
    until_no_programs()?;
    execblock::loaded(machine.kernel.preferred())?;
    ensure!(!programs()?.is_empty(), "no program was loaded");
    execblock::unloaded()?;
    until_no_programs()?;
    execblock::run(&["unload"])?.success()?;
    Ok(())
}

/// Programs are freed after a grace period. Nobody but execblock loads any here.
fn until_no_programs() -> Result<()> {
    process::until(Duration::from_mins(1), "the programs to go", || {
        Ok(programs()?.is_empty().then_some(()))
    })
}

/// `bpftool` prints the fields by name, because the maps carry BTF.
fn dump(machine: &Machine) -> Result<()> {
    execblock::loaded(machine.kernel.preferred())?;
    let map = format!("{PINS}/containers");
    let script = format!("bpftool map dump pinned {map}");
    let output =
        execblock::run(&["run", "--deny", "whoami", "--", "sh", "-c", &script])?.success()?;
    protocol::note(format_args!("$ {script}"));
    protocol::note(output.stdout.trim());
    ensure!(
        output.stdout.contains("policy"),
        "no field named policy: {}",
        output.stdout
    );
    Ok(())
}

/// A full map refuses, with the reason; what is bound stays bound.
fn capacity(_: &Machine) -> Result<()> {
    execblock::unloaded()?;
    execblock::run(&["load", "--max-containers", "2"])?.success()?;
    let nested = format!(
        "{run} id -u; echo second=$?; {run} {run} echo third; echo status=$?; whoami",
        run = format_args!("{} run --deny whoami --", execblock::PROGRAM),
    );
    let output = execblock::run(&["run", "--deny", "whoami", "--", "sh", "-c", &nested])?;
    let lines: Vec<_> = output.stdout.lines().collect();
    execblock::unloaded()?;
    ensure!(
        lines == ["0", "second=0", "status=1"],
        "{lines:?}: {}",
        output.stderr
    );
    ensure!(
        output.stderr.contains("full") || output.stderr.contains("--max-containers"),
        "the reason is not named: {}",
        output.stderr
    );
    Ok(())
}

/// Entries of commands that are over do not fill the map.
fn capacity_of_run(_: &Machine) -> Result<()> {
    execblock::unloaded()?;
    execblock::run(&["load", "--max-containers", "2"])?.success()?;
    for _ in 0..5 {
        execblock::run(&["run", "--deny", "whoami", "--", "id", "-u"])?.success()?;
    }
    execblock::unloaded()
}

/// `load` with another mechanism than the pinned one works or says what to do.
fn change_mechanism(machine: &Machine) -> Result<()> {
    execblock::unloaded()?;
    execblock::loaded(Mechanism::Signal)?;
    let output = execblock::run(&["load", "--mechanism", machine.kernel.preferred().name()])?;
    if output.status.success() {
        let script = [
            "run",
            "--deny",
            "whoami",
            "--",
            "sh",
            "-c",
            "whoami; echo $?",
        ];
        let shell = execblock::run(&script)?.success()?;
        ensure!(
            shell.stdout == "126\n",
            "still the old one: {:?}",
            shell.stdout
        );
    } else {
        ensure!(
            output.stderr.contains("unload"),
            "the next step is not named: {}",
            output.stderr
        );
    }
    execblock::unloaded()
}

fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The ids of all BPF programs in the kernel.
fn programs() -> Result<BTreeSet<u64>> {
    let mut bpftool = process::command("bpftool");
    let output = process::run_unseen(bpftool.args(["-j", "prog", "list"]))?.success()?;
    let list: Vec<serde_json::Value> = serde_json::from_str(&output.stdout)?;
    Ok(list
        .iter()
        .filter_map(|program| program["id"].as_u64())
        .collect())
}
