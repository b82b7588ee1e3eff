//! A container that CRIU wrote to disk is bound before it goes on.

use anyhow::{Result, bail};

use super::{Podman, until_forgotten};
use crate::cases::engine::{Bench, Container, DENY, Engine};
use crate::harness::Skip;
use crate::machine::Machine;
use crate::process;

/// Not one long sleep, which would end when it is restored.
const LOOP: &[&str] = &["/bin/sh", "-c", "while :; do sleep 1000; done"];

pub(super) fn case(machine: &Machine) -> Result<()> {
    match process::run(process::command("criu").arg("check")) {
        Err(error) => bail!(Skip(format!("no CRIU in this userland: {error:#}"))),
        Ok(output) if !output.status.success() => {
            bail!(Skip(format!("`criu check`: {}", output.said().trim_end())));
        }
        Ok(_) => {}
    }
    // Debian's crun looks for a library of CRIU's that Debian does not have.
    restored(&Podman::new("podman", "runc", machine), machine)?;
    restored(&Podman::with_wrapper(machine), machine)
}

fn restored(podman: &Podman, machine: &Machine) -> Result<()> {
    let bench = Bench::loaded(podman, machine)?;
    bench.try_start("restored", DENY, LOOP)?.success()?;
    let container = Container {
        engine: podman,
        name: "restored".to_owned(),
    };
    let id = container.id()?;
    container.bound_path()?;
    podman
        .podman(&["container", "checkpoint", &id])?
        .success()?;
    until_forgotten(&id)?;
    podman.podman(&["container", "restore", &id])?.success()?;
    container.bound_path()?;
    container.is_protected()?;
    podman.remove("restored")
}
