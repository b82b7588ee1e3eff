//! `ctr`, containerd's own client, which NRI does not see: the wrapper is its `--runc-binary`.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use rustix::process::Pid;

use super::shared::{self, BINDS, BINDS_TOO, ORDER, ORDERS, REFUSES};
use super::{Annotations, Engine, faults, wrapper};
use crate::cases::Case;
use crate::containerd;
use crate::machine::Machine;
use crate::process::{self, Output};

/// Its containers lie beside those of the pods.
const NAMESPACE: &str = "vmtest";

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    if machine.has_systemd() {
        return Vec::new();
    }
    let with_runc = match machine.userland.as_str() {
        "forky" => vec![REFUSES, ORDER],
        // That it refuses, its quick start tells.
        "trixie" => [BINDS_TOO, ORDERS].concat(),
        _ => [BINDS, ORDERS].concat(),
    };
    let mut cases = shared::all(CTR, &with_runc);
    if machine.release() != "forky" && machine.runs_all() {
        let crun = Ctr {
            name: "ctr-crun",
            binary: wrapper::CRUN,
        };
        cases.extend(shared::all(crun, &[REFUSES]));
    }
    if machine.release() == "trixie" {
        cases.push(Case::slow("ctr/faulty-runtime", faults::case));
    }
    cases
}

/// With runc.
pub(super) const CTR: Ctr = Ctr {
    name: "ctr",
    binary: wrapper::RUNC,
};

pub(super) struct Ctr {
    pub(super) name: &'static str,
    /// The runtime, as `--runc-binary` names it.
    pub(super) binary: &'static str,
}

/// Names of further processes must differ.
static EXECS: AtomicU32 = AtomicU32::new(0);

fn ctr(args: &[&str]) -> Result<Output> {
    process::run(
        process::command("ctr")
            .args(["--namespace", NAMESPACE])
            .args(args),
    )
}

impl Ctr {
    fn run_command(
        &self,
        name: &str,
        annotations: Annotations<'_>,
        flag: &str,
        command: &[&str],
    ) -> Result<Output> {
        let mut args = vec!["run", flag, "--runc-binary", self.binary];
        let pairs: Vec<_> = annotations
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        args.extend(pairs.iter().flat_map(|pair| ["--annotation", pair]));
        args.extend([containerd::IMAGE, name]);
        args.extend(command);
        ctr(&args)
    }
}

impl Engine for Ctr {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&self) -> Result<()> {
        wrapper::prepare()?;
        containerd::ensure()?;
        let images = ctr(&["images", "list", "--quiet"])?.success()?;
        if !images.stdout.contains(containerd::IMAGE) {
            let path = format!("{}/ctr.tar", containerd::STATE);
            containerd::write_image(&path)?;
            ctr(&["images", "import", &path])?.success()?;
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
        let id = format!("exec-{}", EXECS.fetch_add(1, Ordering::Relaxed));
        let mut args = vec!["tasks", "exec", "--exec-id", &id, name];
        args.extend(command);
        ctr(&args)
    }

    fn remove(&self, name: &str) -> Result<()> {
        // After a start that failed there is a container without a task.
        ctr(&["tasks", "rm", "--force", name])?;
        let output = ctr(&["containers", "rm", name])?;
        if output.said().contains("not found") {
            return Ok(());
        }
        output.success().map(drop)
    }

    fn id(&self, name: &str) -> Result<String> {
        Ok(name.to_owned())
    }

    fn pid(&self, name: &str) -> Result<Pid> {
        let tasks = ctr(&["tasks", "list"])?.success()?.stdout;
        // "TASK    PID    STATUS"
        let row = tasks
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.first() == Some(&name));
        let pid = row.as_ref().and_then(|row| row.get(1)?.parse().ok());
        pid.and_then(Pid::from_raw)
            .with_context(|| format!("no task {name} in {tasks}"))
    }

    fn show_log(&self) {
        containerd::DAEMON.show_log();
    }
}
