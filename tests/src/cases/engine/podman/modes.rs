//! Where Podman puts a container's cgroup, pods, and the wrapper instead of the hook.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{Podman, is_not_started, until_forgotten, whoami_runs};
use crate::cases::engine::{Bench, DENY, Engine as _, IDLE, is_refused};
use crate::containerd::IMAGE;
use crate::execblock;
use crate::machine::Machine;

pub(super) fn cgroups(machine: &Machine) -> Result<()> {
    let podman = Podman::new("podman", "crun", machine);
    let split = podman.with(&["--cgroups", "split"]);
    let bench = Bench::loaded(&split, machine)?;
    let container = bench.start("split", DENY)?;
    let path = container.bound_path()?;
    let expected = format!("/libpod-payload-{}", container.id()?);
    ensure!(path.ends_with(&expected), "{path} is bound");
    container.is_protected()?;

    // It sees the whole hierarchy.
    let host = podman.with(&["--cgroupns", "host"]);
    let bench = Bench::loaded(&host, machine)?;
    let container = bench.start("host", DENY)?;
    container.bound_path()?;
    container.is_protected()?;

    // It has none: what would be bound is Podman's own.
    let disabled = podman.with(&["--cgroups", "disabled"]);
    let bench = Bench::loaded(&disabled, machine)?;
    let annotated = disabled.run("disabled", DENY, IDLE)?;
    is_not_started(&annotated, &["execblock", "no cgroup v2 of its own"])?;
    whoami_runs(&bench, "disabled")
}

/// systemd makes the cgroup, and crun puts the processes into one below it.
pub(super) fn scope(machine: &Machine) -> Result<()> {
    let podman = Podman::new("podman", "crun", machine);
    let bench = Bench::loaded(&podman, machine)?;
    let container = bench.start("scope", DENY)?;
    let path = container.bound_path()?;
    let expected = format!("/machine.slice/libpod-{}.scope", container.id()?);
    ensure!(path == expected, "{path} is bound, expected {expected}");
    let below = container.cgroup()?;
    ensure!(
        below.parent().context("a cgroup of its own")?.id()? == container.bound_id()?,
        "{below:?} is not below the bound cgroup"
    );
    container.is_protected()
}

/// The annotation stands on one of two containers; the third is the pod's own.
pub(super) fn pod(machine: &Machine) -> Result<()> {
    let podman = Podman::new("podman", "crun", machine);
    podman.prepare()?;
    let infra = [
        "--infra-image",
        IMAGE,
        "--infra-command",
        "/bin/sleep 1000000",
    ];
    let create = [
        "pod",
        "create",
        "--replace",
        "--name",
        "pod",
        "--network",
        "none",
    ];
    podman.podman(&[&create[..], &infra].concat())?.success()?;
    let inside = podman.with(&["--pod", "pod"]);
    let bench = Bench::loaded(&inside, machine)?;
    let before = execblock::bound_cgroups()?;
    let annotated = bench.start("annotated", DENY)?;
    let plain = bench.start("plain", &[])?;
    annotated.bound_path()?;
    annotated.is_protected()?;
    plain.is_unprotected()?;
    let bound = execblock::bound_cgroups()?.len();
    ensure!(
        bound == before.len() + 1,
        "{bound} bound, before {before:?}"
    );
    let id = annotated.id()?;
    podman
        .podman(&["pod", "rm", "--force", "--time", "0", "pod"])?
        .success()?;
    until_forgotten(&id)
}

/// The runtime that Podman is told of binds at `start`; there is no hook.
pub(super) fn wrapper(machine: &Machine) -> Result<()> {
    let podman = Podman::with_wrapper(machine);
    let bench = Bench::loaded(&podman, machine)?;
    let container = bench.start("wrapped", DENY)?;
    let id = container.id()?;
    container.bound_path()?;
    container.is_protected()?;
    container.remove()?;
    until_forgotten(&id)?;
    is_refused(&podman.run("once", DENY, &["whoami"])?)?;
    let bad = podman.run("bad", &[("execblock/deny", "./x")], IDLE)?;
    is_not_started(&bad, &["execblock/deny", "./x", "expected"])?;
    whoami_runs(&bench, "plain")
}

/// Fails open, and docs/engines.md says so: Podman passes over the file of a hook that is not there,
/// without a word.
pub(super) fn no_hook(machine: &Machine) -> Result<()> {
    const DIR: &str = "/run/vmtest/hook-missing";
    let podman = Podman {
        hooks: DIR,
        ..Podman::new("podman", "crun", machine)
    };
    podman.prepare()?;
    fs::create_dir_all(DIR)?;
    let hook = include_str!("../../../../../hooks/hooks.d/execblock.json");
    fs::write(format!("{DIR}/execblock.json"), hook)?;
    let ran = podman.run("no-hook", DENY, &["whoami"])?.success()?;
    ensure!(ran.said() == "root\n", "Podman said {:?}", ran.said());
    Ok(())
}
