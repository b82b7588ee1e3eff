//! Stopped, started, restarted: each time the container has another cgroup, which is bound before
//! anything runs in it.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::{Podman, until_forgotten};
use crate::cases::engine::{Bench, DENY, Engine as _, LIMIT};
use crate::execblock;
use crate::machine::Machine;
use crate::process;

pub(super) fn case(machine: &Machine) -> Result<()> {
    let podman = Podman::new("podman", "crun", machine).with(&["--restart", "always"]);
    let bench = Bench::loaded(&podman, machine)?;
    let container = bench.start("again", DENY)?;
    let id = container.id()?;
    let first = container.bound_id()?;

    podman.podman(&["stop", "--time", "0", &id])?.success()?;
    until_forgotten(&id)?;
    ensure!(
        !execblock::bound_cgroups()?.contains(&first),
        "its entry is there after `podman stop`"
    );
    podman.podman(&["start", &id])?.success()?;
    container.bound_path()?;
    container.is_protected()?;

    podman.podman(&["restart", "--time", "0", &id])?.success()?;
    container.bound_path()?;
    container.refuses(&["whoami"])?;

    // conmon sees its end, and calls a Podman that starts it again.
    let before = podman.pid("again")?;
    process::signal(before, Signal::KILL)?;
    process::until(LIMIT, "Podman to restart it", || {
        Ok((podman.pid("again")? != before).then_some(()))
    })?;
    container.bound_path()?;
    container.refuses(&["whoami"])?;

    container.remove()?;
    until_forgotten(&id)
}
