//! Docker, with the wrapper as one of its runtimes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

use super::shared::{self, BINDS, ORDER, ORDERS, REFUSES, Shared};
use super::{Annotations, Engine, wrapper};
use crate::background::Background;
use crate::cases::Case;
use crate::containerd;
use crate::machine::Machine;
use crate::process::{self, Output};

/// Where dockerd looks, and whoever wants to know where its containers are.
pub(in crate::cases) const CONFIG: &str = "/etc/docker/daemon.json";
const START_LIMIT: Duration = Duration::from_mins(4);
const DAEMON: Background = Background::named("docker");

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, runtime, which) in [
        ("docker", "execblock", selection(machine)),
        (
            "docker-crun",
            "execblock-crun",
            selection_with_crun(machine),
        ),
    ] {
        cases.extend(shared::all(Docker::new(name, runtime, machine), &which));
    }
    cases
}

/// Each start takes seconds: all that is shared on one machine, elsewhere what differs there.
fn selection(machine: &Machine) -> Vec<Shared> {
    match machine.userland.as_str() {
        // Docker 20.10 gives its containers no annotations: there only orders hold.
        "bookworm" => ORDERS.to_vec(),
        "trixie" => [BINDS, ORDERS].concat(),
        _ => vec![REFUSES, ORDER],
    }
}

fn selection_with_crun(machine: &Machine) -> Vec<Shared> {
    match machine.release() {
        "bookworm" => Vec::new(),
        "trixie" => vec![REFUSES],
        _ if machine.runs_all() => vec![REFUSES],
        _ => Vec::new(),
    }
}

pub(super) struct Docker {
    name: &'static str,
    /// One of those in [`config`].
    runtime: &'static str,
    /// Who makes the cgroups.
    driver: &'static str,
}

fn docker(args: &[&str]) -> Result<Output> {
    process::run(process::command("docker").args(args))
}

/// Nothing of the network: the kernels lack most of it, and no container needs it.
fn config(driver: &str) -> String {
    serde_json::json!({
        "data-root": format!("{}/docker", containerd::STATE),
        "exec-opts": [format!("native.cgroupdriver={driver}")],
        "log-level": "warn",
        "storage-driver": "overlay2",
        "bridge": "none",
        "iptables": false,
        "ip6tables": false,
        "runtimes": {
            "execblock": { "path": wrapper::RUNC },
            "execblock-crun": { "path": wrapper::CRUN },
        },
    })
    .to_string()
}

/// Has dockerd read its configuration again.
pub(in crate::cases) fn reload() -> Result<()> {
    let pid = DAEMON.pid().context("dockerd does not run")?;
    process::signal(pid, Signal::HUP)
}

impl Docker {
    pub(super) fn new(name: &'static str, runtime: &'static str, machine: &Machine) -> Self {
        Self {
            name,
            runtime,
            driver: if machine.has_systemd() {
                "systemd"
            } else {
                "cgroupfs"
            },
        }
    }

    fn run_command(
        &self,
        name: &str,
        annotations: Annotations<'_>,
        flag: &str,
        command: &[&str],
    ) -> Result<Output> {
        let mut args = vec!["run", flag, "--pull", "never", "--network", "none"];
        args.extend(["--runtime", self.runtime, "--name", name]);
        let pairs: Vec<_> = annotations
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        args.extend(pairs.iter().flat_map(|pair| ["--annotation", pair]));
        let (program, rest) = command.split_first().context("a command")?;
        args.extend(["--entrypoint", program, containerd::IMAGE]);
        args.extend(rest);
        docker(&args)
    }
}

fn inspect(name: &str, format: &str) -> Result<String> {
    let output = docker(&["inspect", "--format", format, name])?.success()?;
    Ok(output.stdout.trim_end().to_owned())
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&self) -> Result<()> {
        wrapper::prepare()?;
        // It uses a containerd that it finds, else it starts one of its own.
        let (_, is_new) = containerd::ensure()?;
        if !is_new && DAEMON.pid().is_some() {
            return Ok(());
        }
        DAEMON.stop(Signal::TERM)?;
        fs::create_dir_all("/etc/docker")?;
        fs::write(CONFIG, config(self.driver)).context(CONFIG)?;
        let pid = DAEMON.start(&process::command("dockerd"))?;
        process::until(START_LIMIT, "dockerd to answer", || {
            if !process::is_alive(pid) {
                bail!("dockerd ended");
            }
            if !Path::new("/run/docker.sock").exists() {
                return Ok(None);
            }
            docker(&["version"])?.success().map(Some)
        })
        .inspect_err(|_| DAEMON.show_log())?;
        let images = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?.success()?;
        if !images.stdout.contains(containerd::IMAGE) {
            let path = format!("{}/docker.tar", containerd::STATE);
            containerd::write_image(&path)?;
            docker(&["load", "--input", &path])?.success()?;
            fs::remove_file(&path)?;
        }
        Ok(())
    }

    fn start(&self, name: &str, annotations: Annotations<'_>, command: &[&str]) -> Result<Output> {
        self.run_command(name, annotations, "--detach", command)
    }

    fn run(&self, name: &str, annotations: Annotations<'_>, command: &[&str]) -> Result<Output> {
        self.run_command(name, annotations, "--rm", command)
    }

    fn exec(&self, name: &str, command: &[&str]) -> Result<Output> {
        docker(&[&["exec", name], command].concat())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let output = docker(&["rm", "--force", name])?;
        if output.said().contains("No such container") {
            return Ok(());
        }
        output.success().map(drop)
    }

    fn id(&self, name: &str) -> Result<String> {
        inspect(name, "{{.Id}}")
    }

    fn pid(&self, name: &str) -> Result<Pid> {
        let pid = inspect(name, "{{.State.Pid}}")?.parse()?;
        Pid::from_raw(pid).with_context(|| format!("{name} has no process"))
    }

    fn show_log(&self) {
        DAEMON.show_log();
    }
}
