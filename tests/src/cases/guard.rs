//! What keeps an exec from passing beside a program that is held up on its processor, each part alone:
//! only together do they stand in a storm.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};

use super::Case;
use super::mechanism::{exec, expect, refused, runs};
use crate::execblock::{self, PINS};
use crate::machine::{Kernel, Machine, Mechanism};
use crate::process;

const TRACEFS: &str = "/sys/kernel/tracing";

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = Vec::new();
    let kernel = machine.kernel;
    // Before 6.2 LSM programs have the guard as well.
    if kernel.has(Mechanism::Lsm) && kernel != Kernel::V6_1 {
        cases.push(Case::new("lsm/without-guard", |_| without_guard()));
    }
    if matches!(kernel, Kernel::V7_3 | Kernel::Ubuntu7_0) {
        cases.push(Case::new("signal/second-look", |_| second_look()));
    }
    cases
}

/// The kernel has no guard for LSM programs, so there are no others; the iterator is for readers.
fn without_guard() -> Result<()> {
    execblock::loaded(Mechanism::Lsm)?;
    let mut names = Vec::new();
    for link in fs::read_dir(format!("{PINS}/links"))? {
        names.push(link?.file_name().to_string_lossy().into_owned());
    }
    for name in ["lsm_exec", "lsm_image", "lsm_fork"] {
        ensure!(names.iter().any(|one| one == name), "no {name}: {names:?}");
    }
    let others = names.iter().filter(|name| !name.starts_with("lsm_"));
    let others: Vec<_> = others.filter(|name| *name != "carried").collect();
    ensure!(others.is_empty(), "with a guard: {others:?}");
    Ok(())
}

/// The tracepoint of perf without the one that it stands beside, on a machine where nobody had
/// mounted tracefs.
fn second_look() -> Result<()> {
    execblock::unloaded()?;
    if Path::new(TRACEFS).join("events").exists() {
        unmount(TRACEFS, UnmountFlags::empty()).context(TRACEFS)?;
    }
    execblock::loaded(Mechanism::Signal)?;
    fs::remove_file(format!("{PINS}/links/signal_exec"))?;
    let looked = only_again();
    // It lacks a part.
    execblock::unloaded()?;
    looked
}

fn only_again() -> Result<()> {
    let checks = [
        refused("by path", exec("/usr/bin/whoami")),
        runs("another program", exec("/usr/bin/id")),
    ];
    expect(Mechanism::Signal, &["--deny", "whoami"], &checks)?;
    let mut applet = execblock::command();
    applet.args(["run", "--deny", "whoami", "--"]);
    applet.args(["sh", "-c", "busybox whoami; echo $?; busybox id -u"]);
    let output = process::run(&mut applet)?.success()?;
    ensure!(output.stdout == "137\n0\n", "{}", output.said());
    Ok(())
}
