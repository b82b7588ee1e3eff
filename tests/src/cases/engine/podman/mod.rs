//! Podman: the hook of `hooks.d`, the wrapper as its runtime, and what only Podman has.

mod checkpoint;
mod lifecycle;
mod modes;
mod rootless;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

use super::{Annotations, Bench, Container, Engine, RECORDS, has_record, shared, wrapper};
use crate::cases::Case;
use crate::containerd::{self, IMAGE};
use crate::machine::Machine;
use crate::process::{self, Output};

/// Where Podman looks for hooks when it is not told.
const HOOKS: &str = "/usr/share/containers/oci/hooks.d";
const NO_HOOKS: &str = "/run/vmtest/no-hooks";
const HOOK: &str = "/payload/execblock-hook";

/// Each start takes seconds, so that crun and runc share the machines of Debian 13 among them.
pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let crun = Podman::new("podman-crun", "crun", machine);
    let runc = Podman::new("podman-runc", "runc", machine);
    let mut cases = Vec::new();
    if machine.has_systemd() {
        cases.extend(shared::all(runc, shared::BINDS));
        cases.push(Case::slow("podman/scope", modes::scope));
        cases.push(Case::slow("podman/pod", modes::pod));
        return cases;
    }
    if machine.release() == "trixie" {
        // That it refuses, and takes orders, its quick starts tell.
        cases.extend(shared::all(crun, shared::BINDS_TOO));
        cases.extend([
            Case::slow("podman/lifecycle", lifecycle::case),
            Case::slow("podman/cgroups", modes::cgroups),
            Case::slow("podman/wrapper", modes::wrapper),
            Case::slow("podman/no-hook", modes::no_hook),
            Case::slow("podman/rootless", rootless::case),
            Case::slow("podman/checkpoint", checkpoint::case),
        ]);
    } else {
        cases.extend(shared::all(crun, shared::BINDS));
        if machine.runs_all() {
            cases.extend(shared::all(runc, &[shared::REFUSES]));
        }
    }
    cases
}

/// One way of running Podman. All of them share its store.
#[derive(Debug, Clone, Copy)]
struct Podman {
    name: &'static str,
    runtime: &'static str,
    /// Who makes the cgroups.
    manager: &'static str,
    hooks: &'static str,
    /// Further options of `podman run`.
    options: &'static [&'static str],
}

impl Podman {
    /// With the hook where Podman looks by itself.
    fn new(name: &'static str, runtime: &'static str, machine: &Machine) -> Self {
        Self {
            name,
            runtime,
            manager: if machine.has_systemd() {
                "systemd"
            } else {
                "cgroupfs"
            },
            hooks: HOOKS,
            options: &[],
        }
    }

    /// With the wrapper in front of runc, and no hook.
    fn with_wrapper(machine: &Machine) -> Self {
        Self {
            hooks: NO_HOOKS,
            ..Self::new("podman-wrapper", wrapper::RUNC, machine)
        }
    }

    fn with(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    fn command(&self) -> Command {
        let mut command = process::command("podman");
        command.args(["--cgroup-manager", self.manager]);
        command.args(["--runtime", self.runtime]);
        if self.hooks != HOOKS {
            command.args(["--hooks-dir", self.hooks]);
        }
        command
    }

    fn podman(&self, args: &[&str]) -> Result<Output> {
        process::run(self.command().args(args))
    }

    fn load_image(&self) -> Result<()> {
        if self.podman(&["image", "exists", IMAGE])?.code() == Some(0) {
            return Ok(());
        }
        let path = image()?;
        self.podman(&["load", "--quiet", "--input", path])?
            .success()
            .map(drop)
    }

    fn run_command(
        &self,
        name: &str,
        annotations: Annotations<'_>,
        flag: &str,
        command: &[&str],
    ) -> Result<Output> {
        let mut run = self.command();
        run.args(["run", flag, "--name", name]).args(self.options);
        if !self.options.contains(&"--pod") {
            run.args(["--network", "none"]);
        }
        for (key, value) in annotations {
            // Podman 4.3 ends a value at a comma; white space splits a list as well.
            let value = value.replace(',', " ");
            run.arg("--annotation").arg(format!("{key}={value}"));
        }
        // The image has an entrypoint, which a command would only follow.
        run.arg("--entrypoint").arg(serde_json::to_string(command)?);
        process::run(run.arg(IMAGE))
    }
}

impl Engine for Podman {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&self) -> Result<()> {
        install_hook()?;
        fs::create_dir_all(NO_HOOKS)?;
        self.load_image()
    }

    fn start(&self, name: &str, annotations: Annotations<'_>, command: &[&str]) -> Result<Output> {
        self.run_command(name, annotations, "--detach", command)
    }

    fn run(&self, name: &str, annotations: Annotations<'_>, command: &[&str]) -> Result<Output> {
        self.run_command(name, annotations, "--rm", command)
    }

    fn exec(&self, name: &str, command: &[&str]) -> Result<Output> {
        self.podman(&[&["exec", name], command].concat())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.podman(&["rm", "--force", "--time", "0", name])?
            .success()
            .map(drop)
    }

    /// From Podman's files: each of its commands takes a second or two.
    fn id(&self, name: &str) -> Result<String> {
        let path = "/var/lib/containers/storage/overlay-containers/containers.json";
        let text = fs::read(path).context(path)?;
        let all: Vec<serde_json::Value> = serde_json::from_slice(&text).context(path)?;
        let one = all
            .iter()
            .find(|one| {
                one["names"]
                    .as_array()
                    .is_some_and(|names| names.contains(&name.into()))
            })
            .with_context(|| format!("no container {name} in {path}"))?;
        Ok(one["id"].as_str().context("an id")?.to_owned())
    }

    fn pid(&self, name: &str) -> Result<Pid> {
        let id = self.id(name)?;
        let path = format!("/run/containers/storage/overlay-containers/{id}/userdata/pidfile");
        let pid = fs::read_to_string(&path).context(path)?.trim().parse()?;
        Pid::from_raw(pid).with_context(|| format!("{name} has no process"))
    }
}

/// The image of the tests as a file that every user may read.
fn image() -> Result<&'static str> {
    const PATH: &str = "/run/vmtest/image.tar";
    if !Path::new(PATH).exists() {
        fs::create_dir_all("/run/vmtest")?;
        containerd::write_image(PATH)?;
    }
    Ok(PATH)
}

/// The hook as it is shipped, at the place where the payload has it.
fn install_hook() -> Result<()> {
    let shipped = include_str!("../../../../../hooks/hooks.d/execblock.json");
    let mut hook: serde_json::Value = serde_json::from_str(shipped)?;
    hook["hook"]["path"] = HOOK.into();
    fs::create_dir_all(HOOKS)?;
    fs::write(format!("{HOOKS}/execblock.json"), hook.to_string()).context(HOOKS)
}

/// Has the image in the store, and no hook of ours: who wants one, sets it up.
pub(super) fn prepare_without_hook(machine: &Machine) -> Result<()> {
    let hook = format!("{HOOKS}/execblock.json");
    if Path::new(&hook).exists() {
        fs::remove_file(&hook).context(hook)?;
    }
    Podman::new("podman-crun", "crun", machine).load_image()
}

/// Waits until nothing is known of the container. Podman forgets it after its command has ended.
fn until_forgotten(id: &str) -> Result<()> {
    process::until(super::LIMIT, "the record to go", || {
        Ok((!has_record(id)).then_some(()))
    })
}

impl Container<'_> {
    /// The path under which it is bound, which its record says as well.
    fn bound_path(&self) -> Result<String> {
        let id = self.bound_id()?;
        let file = format!("{RECORDS}/{}/{id}.json", self.id()?);
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&file).context(file)?)?;
        let path = record["path"].as_str().context("a record without a path")?;
        Ok(path.to_owned())
    }
}

/// The container did not start, and Podman's error has these words.
fn is_not_started(output: &Output, words: &[&str]) -> Result<()> {
    let said = output.said();
    ensure!(!output.status.success(), "it started: {said}");
    for word in words {
        ensure!(said.contains(word), "no {word:?} in the error: {said}");
    }
    Ok(())
}

/// whoami runs to its end in a container of its own.
fn whoami_runs(bench: &Bench<'_>, name: &str) -> Result<()> {
    let plain = bench.engine.run(name, &[], &["whoami"])?.success()?;
    ensure!(plain.stdout == "root\n", "whoami said {:?}", plain.said());
    Ok(())
}
