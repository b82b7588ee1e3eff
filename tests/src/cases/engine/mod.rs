//! Engines that NRI does not reach: the runtime wrapper or the OCI hook binds their containers.
//! [`Engine`] is how one is asked; the cases in [`shared`] are the same for all.

mod ctr;
mod docker;
mod faults;
mod podman;
mod shared;
mod wrapper;

pub(super) use self::docker::{CONFIG as DOCKER_CONFIG, reload as reload_docker};

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Pid;

use super::Case;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::machine::Machine;
use crate::process::Output;
use crate::protocol;

/// A container that stays.
const IDLE: &[&str] = &["/bin/sleep", "1000000"];
const DENY: Annotations<'_> = &[("execblock/deny", "whoami")];
const LIMIT: Duration = Duration::from_mins(3);
const RECORDS: &str = "/run/execblock/containers";

type Annotations<'a> = &'a [(&'a str, &'a str)];

/// An engine with one runtime, and with whatever binds its containers set up.
trait Engine {
    /// The group of its cases, `docker` or `podman-crun`.
    fn name(&self) -> &'static str;

    /// Has its daemons running, if it has any, and the image of the tests in its store. Called
    /// first by each case, so it must be quick the second time.
    fn prepare(&self) -> Result<()>;

    /// Starts a container that goes on. The output is that of the engine's command, whose failure
    /// is no error here.
    fn start(&self, name: &str, annotations: Annotations<'_>, command: &[&str]) -> Result<Output>;

    /// Runs a container to its end, which also removes it. Output and exit status are the
    /// container's.
    fn run(&self, name: &str, annotations: Annotations<'_>, command: &[&str]) -> Result<Output>;

    /// Runs one more command in a container that goes on.
    fn exec(&self, name: &str, command: &[&str]) -> Result<Output>;

    /// Ends and removes a container, also one whose start has failed.
    fn remove(&self, name: &str) -> Result<()>;

    /// Its full id.
    fn id(&self, name: &str) -> Result<String>;

    /// Its first process, as this machine counts.
    fn pid(&self, name: &str) -> Result<Pid>;

    /// For the details of a failure.
    fn show_log(&self) {}
}

/// The machine's engines, each with its runtimes.
pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = ctr::cases(machine);
    cases.extend(docker::cases(machine));
    cases.extend(podman::cases(machine));
    cases
}

/// Has containerd running, and the image of the tests in the namespace of `ctr`'s containers.
pub(super) fn prepare_ctr() -> Result<()> {
    ctr::CTR.prepare()
}

/// Has dockerd running, and the image of the tests in its store.
pub(super) fn prepare_docker(machine: &Machine) -> Result<()> {
    docker::Docker::new("docker", "execblock", machine).prepare()
}

/// Has the image of the tests in Podman's store, and the hook nowhere.
pub(super) fn prepare_podman(machine: &Machine) -> Result<()> {
    podman::prepare_without_hook(machine)
}

/// An annotated container where nothing can be loaded, and one without annotations.
/// The reason must have these words.
pub(super) fn fails_closed(words: &[&str]) -> Result<()> {
    shared::refuses_without_pins(&ctr::CTR, words)
}

/// An engine and the containers of this case, which are removed at its end.
struct Bench<'a> {
    engine: &'a dyn Engine,
    started: RefCell<Vec<String>>,
}

impl<'a> Bench<'a> {
    /// With programs pinned that can refuse.
    fn loaded(engine: &'a dyn Engine, machine: &Machine) -> Result<Self> {
        execblock::loaded(machine.kernel.preferred())?;
        Self::without_pins(engine)
    }

    /// With whatever is pinned, or nothing.
    fn without_pins(engine: &'a dyn Engine) -> Result<Self> {
        engine.prepare()?;
        Ok(Self {
            engine,
            started: RefCell::default(),
        })
    }

    /// A container that is there when this returns.
    fn start(&self, name: &str, annotations: Annotations<'_>) -> Result<Container<'_>> {
        self.try_start(name, annotations, IDLE)?.success()?;
        Ok(Container {
            engine: self.engine,
            name: name.to_owned(),
        })
    }

    fn try_start(
        &self,
        name: &str,
        annotations: Annotations<'_>,
        command: &[&str],
    ) -> Result<Output> {
        self.started.borrow_mut().push(name.to_owned());
        self.engine.start(name, annotations, command)
    }

    /// What the engine says of a container that it must not start.
    fn refused_start(&self, name: &str, annotations: Annotations<'_>) -> Result<String> {
        let output = self.try_start(name, annotations, IDLE)?;
        let said = output.said();
        ensure!(!output.status.success(), "{name} started: {said}");
        protocol::note(format_args!("{} refuses: {said}", self.engine.name()));
        Ok(said)
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.engine.show_log();
        for name in self.started.borrow().iter() {
            if let Err(error) = self.engine.remove(name) {
                protocol::log(format_args!("remove {name}: {error:#}"));
            }
        }
    }
}

/// One that goes on.
struct Container<'a> {
    engine: &'a dyn Engine,
    name: String,
}

impl Container<'_> {
    fn id(&self) -> Result<String> {
        self.engine.id(&self.name)
    }

    /// The cgroup of its first process.
    fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::of(self.engine.pid(&self.name)?)
    }

    /// Removes it before the end of the case.
    fn remove(&self) -> Result<()> {
        self.engine.remove(&self.name)
    }

    /// The command runs inside and says this.
    fn runs(&self, command: &[&str], says: &str) -> Result<()> {
        let output = self.engine.exec(&self.name, command)?.success()?;
        ensure!(
            output.stdout == says,
            "{command:?} said {:?}",
            output.said()
        );
        Ok(())
    }

    /// The command is refused with `EPERM`.
    fn refuses(&self, command: &[&str]) -> Result<()> {
        let output = self.engine.exec(&self.name, command)?;
        is_refused(&output).with_context(|| format!("{command:?}"))
    }

    fn is_protected(&self) -> Result<()> {
        self.refuses(&["whoami"])?;
        self.runs(&["id", "-u"], "0\n")
    }

    /// The id under which it is bound: its own cgroup's, or the one above where the runtime puts
    /// the processes into a group below the container's.
    fn bound_id(&self) -> Result<u64> {
        let bound = execblock::bound_cgroups()?;
        let mut cgroup = Some(self.cgroup()?);
        while let Some(at) = cgroup {
            let id = at.id()?;
            if bound.contains(&id) {
                return Ok(id);
            }
            cgroup = at.parent();
        }
        bail!("no cgroup of {} is in the map: {bound:?}", self.name)
    }

    fn is_unprotected(&self) -> Result<()> {
        self.runs(&["whoami"], "root\n")?;
        match self.bound_id() {
            Err(_) => Ok(()),
            Ok(id) => bail!("its cgroup {id} is in the map"),
        }
    }
}

/// Whoever reports it, the runtime or the engine: it did not run, for want of permission.
fn is_refused(output: &Output) -> Result<()> {
    let said = output.said();
    ensure!(!output.status.success(), "it ran: {said}");
    ensure!(
        !output.stdout.contains("root"),
        "it ran and then failed: {said}"
    );
    ensure!(
        said.to_lowercase().contains("operation not permitted"),
        "it failed, but not with EPERM: {said}"
    );
    Ok(())
}

/// Whether a record of this container lies in the run directory, `ID/CGROUP.json`.
fn has_record(id: &str) -> bool {
    records().iter().any(|name| name == id)
}

/// The containers that have a record.
fn records() -> Vec<String> {
    let Ok(entries) = fs::read_dir(RECORDS) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
