//! The quick starts as users find them: the scripts of `examples/quickstart`, run as written, must
//! do what `docs/quickstart.md` shows. On one machine: what an engine makes different, its own
//! cases tell.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use rustix::mount::mount_bind;

use super::{Case, cri, engine};
use crate::containerd;
use crate::crictl;
use crate::execblock;
use crate::machine::{Kernel, Machine};
use crate::process::{self, Output};
use crate::protocol;
use crate::quickstart::{FILES, PAGE, compare, shown};

const LIMIT: Duration = Duration::from_mins(6);
const FOLDER: &str = "/run/vmtest/quickstart";
/// What a user's pods and containers are made of.
const IMAGE: &str = "docker.io/library/busybox:latest";
/// The programs, where a user has them.
const INSTALLED: &[(&str, &str)] = &[
    (execblock::PROGRAM, "/usr/local/bin/execblock"),
    (containerd::WRAPPER, "/usr/local/bin/execblock-runc"),
    (
        "/payload/execblock-hook",
        "/usr/local/libexec/execblock/execblock-hook",
    ),
];

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    if (machine.kernel, machine.userland.as_str()) != (Kernel::V6_12, "trixie") {
        return Vec::new();
    }
    vec![
        Case::slow("quickstart/run", |_| {
            // It loads by itself.
            execblock::unloaded()?;
            works("run.sh")
        }),
        Case::slow("quickstart/podman", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            engine::prepare_podman(machine)?;
            works("podman.sh")
        }),
        Case::slow("quickstart/running", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            engine::prepare_podman(machine)?;
            works("running.sh")
        }),
        Case::slow("quickstart/ctr", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            engine::prepare_ctr()?;
            works("ctr.sh")
        }),
        Case::slow("quickstart/docker", docker),
        Case::slow("quickstart/pod", |_| pod()),
    ]
}

/// Docker as it is before execblock is set up.
fn docker(machine: &Machine) -> Result<()> {
    execblock::loaded(machine.kernel.preferred())?;
    engine::prepare_docker(machine)?;
    let with_runtimes = fs::read(engine::DOCKER_CONFIG)?;
    let mut config: serde_json::Value = serde_json::from_slice(&with_runtimes)?;
    config
        .as_object_mut()
        .context("Docker's configuration")?
        .remove("runtimes");
    fs::write(engine::DOCKER_CONFIG, config.to_string())?;
    let done = works("docker.sh");
    fs::write(engine::DOCKER_CONFIG, with_runtimes)?;
    engine::reload_docker()?;
    done
}

/// A pod of a user's image, which is that of the tests.
fn pod() -> Result<()> {
    cri::ready()?;
    process::run(process::command("ctr").args([
        "--namespace",
        "k8s.io",
        "images",
        "tag",
        "--force",
        containerd::IMAGE,
        IMAGE,
    ]))?
    .success()?;
    let (client, _) = containerd::ensure()?;
    process::until(LIMIT, IMAGE, || Ok(client.has_image(IMAGE)?.then_some(())))?;
    works("pod.sh")
}

/// Runs the script, and holds what it says against the page.
fn works(script: &str) -> Result<()> {
    install()?;
    let before = bound()?;
    let mut shell = process::command("sh");
    shell
        .arg(format!("{FOLDER}/{script}"))
        .env("IMAGE", containerd::IMAGE)
        .env("CONTAINERD_NAMESPACE", "vmtest");
    let output: Output = process::run_within(&mut shell, LIMIT)?;
    for line in output.stdout.lines() {
        protocol::note(line);
    }
    let said = output.success()?.stdout;
    compare(&shown(PAGE, script)?, &said)?;
    process::until(LIMIT, "what the script bound to go", || {
        let now = bound()?;
        ensure!(now == before, "{before:?} before, {now:?} now");
        Ok(Some(()))
    })
}

/// The cgroups that are bound, none where nothing is loaded.
fn bound() -> Result<BTreeSet<u64>> {
    if !Path::new(execblock::PINS).exists() {
        return Ok(BTreeSet::new());
    }
    execblock::bound_cgroups()
}

/// The scripts and the programs, once.
fn install() -> Result<()> {
    if Path::new(FOLDER).exists() {
        return Ok(());
    }
    for &(from, to) in INSTALLED {
        let folder = Path::new(to).parent().context("a folder")?;
        fs::create_dir_all(folder)?;
        // Cheaper than a copy, and known by this path as one would be.
        fs::write(to, "")?;
        mount_bind(from, to).context(to)?;
    }
    fs::write(crictl::PROGRAM, crictl::SCRIPT)?;
    fs::set_permissions(crictl::PROGRAM, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(FOLDER)?;
    for file in FILES {
        fs::write(format!("{FOLDER}/{}", file.name), file.text)?;
    }
    Ok(())
}
