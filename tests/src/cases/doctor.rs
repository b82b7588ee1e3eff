//! `execblock doctor`: what it says must be what the kernel table says.

use anyhow::{Result, bail, ensure};

use super::Case;
use crate::execblock::{self, EXIT_UNABLE};
use crate::machine::{Machine, Mechanism};
use crate::protocol;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("doctor/mechanisms", mechanisms),
        Case::new("doctor/text", |_| text()),
        Case::new("doctor/usage", |_| usage()),
    ]
}

/// Every mechanism is reported, working exactly where it works.
fn mechanisms(machine: &Machine) -> Result<()> {
    execblock::unloaded()?;
    let (output, report) = execblock::doctor()?;
    let output = output.expect_code(0)?;
    let mut wrong = Vec::new();
    for mechanism in Mechanism::ALL {
        let found = execblock::find_mechanism(&report, mechanism)?;
        protocol::note(format_args!("doctor: {}", found.text));
        if found.works != machine.kernel.has(mechanism) {
            wrong.push(mechanism.name());
        }
    }
    if !wrong.is_empty() {
        bail!("wrong about {}: {}", wrong.join(", "), output.stdout);
    }
    ensure!(
        !std::path::Path::new(execblock::PINS).exists(),
        "doctor left pins where there were none"
    );
    Ok(())
}

fn text() -> Result<()> {
    let output = execblock::run(&["doctor"])?.expect_code(0)?;
    for mechanism in Mechanism::ALL {
        ensure!(
            output.stdout.contains(mechanism.name()),
            "{} is not named",
            mechanism.name()
        );
    }
    for line in output.stdout.lines() {
        protocol::note(format_args!("doctor: {line}"));
    }
    Ok(())
}

fn usage() -> Result<()> {
    execblock::run(&["doctor", "--no-such-option"])?.expect_code(2)?;
    execblock::run(&["load", "--mechanism", "no-such"])?.expect_code(2)?;
    Ok(())
}

/// A mechanism that the kernel lacks is refused with the exit status for that, and a reason.
pub(super) fn reported_missing(mechanism: Mechanism) -> Result<()> {
    execblock::unloaded()?;
    let (_, report) = execblock::doctor()?;
    let found = execblock::find_mechanism(&report, mechanism)?;
    ensure!(!found.works, "reported as working: {}", found.text);
    let load = execblock::run(&["load", "--mechanism", mechanism.name()])?;
    let load = load.expect_code(EXIT_UNABLE)?;
    let reason = load.stderr.trim();
    ensure!(reason.len() > 20, "no reason on standard error: {reason:?}");
    protocol::note(format_args!(
        "load --mechanism {}: {reason}",
        mechanism.name()
    ));
    ensure!(
        !std::path::Path::new(execblock::PINS).join("links").exists(),
        "links are pinned after a refusal"
    );
    Ok(())
}
