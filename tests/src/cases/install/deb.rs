//! The Debian package: `dpkg --install`, an upgrade, a removal that an engine forbids, one that it
//! does not, and a purge.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::storm::Storm;
use super::{
    PACKAGE, as_of_another_build, build, is_installed, nothing_is_left, nothing_of_others, run,
    says, snapshot, systemctl, units_are_on,
};
use crate::execblock::{self, PINS};
use crate::harness::Skip;
use crate::machine::Machine;
use crate::process::{self, Output};
use crate::protocol;

const PROGRAM: &str = "/usr/bin/execblock";

/// Gone with the case, also where it failed.
struct Purged;

impl Drop for Purged {
    fn drop(&mut self) {
        if is_installed(PROGRAM) {
            let setup = ["setup", "podman", "--remove"];
            drop(process::run(process::command(PROGRAM).args(setup)));
            drop(dpkg(&["--purge", "execblock"]));
        }
    }
}

fn dpkg(args: &[&str]) -> Result<Output> {
    run(process::command("dpkg").args(args))
}

pub(super) fn case(machine: &Machine) -> Result<()> {
    let old = format!("{PACKAGE}/execblock_1.deb");
    let new = format!("{PACKAGE}/execblock_2.deb");
    if !Path::new(&new).exists() {
        return Err(Skip("no package in the payload: cargo-deb is not installed".into()).into());
    }
    execblock::unloaded()?;
    nothing_of_others()?;
    let before = snapshot()?;
    let _purged = Purged;
    let said = dpkg(&["--install", &old])?.success()?;
    if machine.has_systemd() {
        units_are_on()?;
        says(&said, &["execblock setup"])?;
    } else {
        says(&said, &["systemd does not run here", "execblock load"])?;
        ensure!(!Path::new(PINS).exists(), "something is loaded");
        process::run(process::command(PROGRAM).arg("load"))?.success()?;
    }
    let mut storm = Storm::begin(PROGRAM)?;
    upgraded(&mut storm, &new)?;
    if machine.has_systemd() {
        units_are_on()?;
    } else {
        // Once more, as `apt-get install --reinstall` does it.
        let ((), refused) = storm.during(|| dpkg(&["--install", &new])?.success().map(drop))?;
        protocol::note(format_args!("{refused} refusals during an installation"));
    }
    removed(machine, &mut storm)?;
    storm.unattended(|| {
        dpkg(&["--purge", "execblock"])?.success()?;
        nothing_is_left(&before)
    })?;
    storm.gets_through()?;
    // What `execblock run` wrote when it ended.
    drop(fs::remove_dir_all("/run/execblock"));
    Ok(())
}

/// What is loaded is of another build, and replaced.
fn upgraded(storm: &mut Storm, package: &str) -> Result<()> {
    let own = as_of_another_build()?;
    let ((), refused) = storm.during(|| dpkg(&["--install", package])?.success().map(drop))?;
    protocol::note(format_args!("{refused} refusals during an upgrade"));
    ensure!(build()? == own, "the programs were not replaced");
    let query = ["--show", "--showformat", "${Version}", "execblock"];
    let version = process::run(process::command("dpkg-query").args(query))?.success()?;
    ensure!(version.stdout.ends_with("+upgrade"), "{}", version.stdout);
    Ok(())
}

/// Not while an engine would miss it; then its rules hold on.
fn removed(machine: &Machine, storm: &mut Storm) -> Result<()> {
    let setup = |args: &[&str]| {
        let mut command = process::command(PROGRAM);
        process::run(command.args(["setup", "podman"]).args(args))?.success()
    };
    setup(&[])?;
    let refused = dpkg(&["--remove", "execblock"])?;
    ensure!(!refused.status.success(), "it was removed");
    says(&refused, &["execblock setup podman --remove"])?;
    ensure!(is_installed(PROGRAM), "the program is gone");
    setup(&["--remove"])?;
    let (said, _) = storm.during(|| dpkg(&["--remove", "execblock"])?.success())?;
    says(&said, &["stays refused", "purge"]).context("removal")?;
    ensure!(!is_installed(PROGRAM), "the program is there");
    if machine.has_systemd() {
        let daemon = systemctl(&["is-active", "execblock.service"])?;
        ensure!(!daemon.status.success(), "the daemon goes on");
    }
    Ok(())
}
