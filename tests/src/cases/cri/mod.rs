//! Pods on the userland's containerd, with the daemon as its NRI plugin.

mod daemonset;
mod events;
mod inject;
mod invalid;
mod lifecycle;
mod lists;
mod pre_installed;
mod refusal;
mod required;
mod timing;
pub(super) mod units;
mod why;

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

use super::Case;
use crate::cgroup::Cgroup;
use crate::containerd;
use crate::cri_client::container::ContainerConfig;
use crate::cri_client::{
    ContainerSpec, CriClient, LinuxPod, PodConfig, PodMetadata, PodSecurity, Status,
};
use crate::execblock::{self, PLUGIN};
use crate::machine::{Kernel, Machine};
use crate::process;
use crate::protocol;

const LIMIT: Duration = Duration::from_mins(3);
const LOGS: &str = "/run/vmtest/pods";

/// A container that stays.
const IDLE: &[&str] = &["/bin/sleep", "1000000"];

/// What depends on the kernel runs everywhere, what depends on the runtime once for each
/// containerd, and what is the same for all of them on the newest, which is the fastest.
pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = vec![Case::slow("cri/without-execblock", |_| without_execblock())];
    cases.extend(refusal::core());
    let here = (machine.kernel, machine.userland.as_str());
    let all = here == (Kernel::V7_3, "forky") || !machine.filter.is_empty();
    if all || here == (Kernel::V6_12, "trixie") {
        cases.extend(daemonset::cases());
        cases.extend(pre_installed::cases());
        cases.extend(events::cases());
        cases.extend(lifecycle::cases());
        cases.extend(lists::of_runtime());
    }
    if machine.has_validator() {
        cases.extend(required::cases());
    }
    if machine.has_older() {
        cases.extend(lifecycle::of_upgrade());
    }
    if all {
        cases.extend(inject::cases());
        cases.extend(refusal::cases());
        cases.extend(invalid::cases());
        cases.extend(why::cases());
        cases.extend(lists::of_node());
        cases.push(Case::slow("cri/demo", |_| demo()));
    }
    // A measurement: where it is asked for.
    if machine.filter.contains("start-time") {
        cases.extend(timing::cases());
    }
    cases
}

/// Has containerd running, with the daemon as its plugin and no pods.
pub(super) fn ready() -> Result<()> {
    Engine::with_plugin().map(drop)
}

/// Where containerd has no NRI, and beside it: a runtime class whose runtime is the wrapper.
pub(super) fn wrapper_cases() -> Vec<Case> {
    vec![Case::slow("cri/runtime-class", runtime_class)]
}

/// Pod and container annotations through the wrapper; the same pod without the class is not bound.
fn runtime_class(machine: &Machine) -> Result<()> {
    const CLASS: &str = "execblock";
    let engine = Engine::without_plugin()?;
    execblock::loaded(machine.kernel.preferred())?;
    let before = execblock::bound_cgroups()?;
    let annotations = &[("execblock/deny", "whoami")];
    let pod = engine.pod_on(CLASS, "class", annotations)?;
    ensure!(
        execblock::bound_cgroups()? == before,
        "the pod's sandbox is bound"
    );
    let container = pod.start("c", IDLE, &[])?;
    container.is_protected()?;
    let own = pod.start("own", IDLE, &[("execblock/deny", "ls")])?;
    own.refuses(&["ls"])?;
    own.runs(&["whoami"], "root\n")?;
    let invalid = pod.create("invalid", IDLE, &[("execblock/deny", "./x")])?;
    let Err(error) = invalid.start() else {
        bail!("a container with a bad annotation started")
    };
    let error = format!("{error:#}");
    protocol::note(format_args!("runtime class: {error}"));
    ensure!(
        error.contains("execblock/deny") && error.contains("expected"),
        "{error}"
    );
    container.remove()?;
    own.remove()?;
    ensure!(
        execblock::bound_cgroups()? == before,
        "an entry is left in the map"
    );
    let other = engine.pod("other", annotations)?.start("c", IDLE, &[])?;
    other.is_unprotected()
}

/// The machine itself: pods work where there is no trace of execblock.
fn without_execblock() -> Result<()> {
    if Path::new(execblock::PROGRAM).exists() {
        execblock::unloaded()?;
    }
    let engine = Engine::without_plugin()?;
    protocol::note(format_args!("containerd {}", containerd::version()?));
    let pod = engine.pod("plain", &[("execblock/deny", "whoami")])?;
    let container = pod.start("c", IDLE, &[])?;
    container.runs(&["whoami"], "root\n")?;
    container.runs(&["/bin/whoami"], "root\n")?;
    let once = pod.create("once", &["/bin/whoami"], &[])?;
    once.start()?;
    let status = once.end()?;
    ensure!(
        status.exit_code == 0,
        "exit code {}: {}",
        status.exit_code,
        once.log()?
    );
    ensure!(once.log()? == "root\n", "said {:?}", once.log()?);
    Ok(())
}

/// What `install.sh --demo` shows, beside a containerd that runs already.
fn demo() -> Result<()> {
    let mut command = process::command("/payload/vmtest");
    command.args(["demo", execblock::PROGRAM]);
    // It starts a containerd and a pod, and everything is emulated.
    let shown = process::run_within(&mut command, 4 * LIMIT)?
        .success()?
        .stdout;
    for line in shown.lines() {
        protocol::note(line);
    }
    ensure!(
        shown.contains("exec id -un: root") && is_eperm(&shown),
        "no refusal was shown"
    );
    Ok(())
}

/// containerd, and the pods of this case, which are removed at its end.
struct Engine {
    client: RefCell<CriClient>,
    pods: RefCell<Vec<String>>,
}

impl Engine {
    fn without_plugin() -> Result<Self> {
        PLUGIN.stop(Signal::TERM)?;
        let (client, _) = containerd::ensure()?;
        Self::new(client)
    }

    /// With the daemon registered and the programs loaded.
    fn with_plugin() -> Result<Self> {
        let (client, is_new) = containerd::ensure()?;
        if PLUGIN.pid().is_none() {
            // It takes what is loaded, whatever the case before wanted.
            execblock::not_loaded_but(Machine::this()?.kernel.preferred())?;
        }
        execblock::plugin_running(is_new)?;
        Self::new(client)
    }

    fn new(client: CriClient) -> Result<Self> {
        // What a case that was killed left behind.
        for pod in client.pods()? {
            client.remove_pod(&pod)?;
        }
        Ok(Self {
            client: RefCell::new(client),
            pods: RefCell::default(),
        })
    }

    fn client(&self) -> Ref<'_, CriClient> {
        self.client.borrow()
    }

    /// The same pods, after containerd was started anew.
    fn reconnect(&self, client: CriClient) {
        self.client.replace(client);
    }

    fn pod(&self, name: &str, annotations: &[(&str, &str)]) -> Result<Pod<'_>> {
        self.pod_on("runc", name, annotations)
    }

    fn pod_on(&self, runtime: &str, name: &str, annotations: &[(&str, &str)]) -> Result<Pod<'_>> {
        let log_directory = log_directory(name)?;
        let config = PodConfig {
            metadata: Some(PodMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "default".to_owned(),
            }),
            log_directory,
            annotations: owned(annotations),
            linux: Some(LinuxPod {
                cgroup_parent: format!("/kubepods/pod-{name}"),
                security_context: Some(PodSecurity::on_host_network(true)),
            }),
        };
        self.run_pod(config, runtime)
    }

    fn run_pod(&self, config: PodConfig, runtime: &str) -> Result<Pod<'_>> {
        let id = self
            .client()
            .run_pod(&config, runtime)
            .inspect_err(|_| containerd::DAEMON.show_log())?;
        let name = config.metadata.as_ref().map(|metadata| &*metadata.name);
        protocol::log(format_args!("pod {} is {id}", name.unwrap_or_default()));
        self.pods.borrow_mut().push(id.clone());
        Ok(Pod {
            engine: self,
            id,
            config,
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if PLUGIN.pid().is_some() {
            PLUGIN.show_log();
        }
        for pod in self.pods.borrow().iter() {
            if let Err(error) = self.client().remove_pod(pod) {
                protocol::log(format_args!("remove pod {pod}: {error:#}"));
            }
        }
    }
}

struct Pod<'a> {
    engine: &'a Engine,
    id: String,
    config: PodConfig,
}

impl<'a> Pod<'a> {
    fn remove(&self) -> Result<()> {
        self.engine.client().remove_pod(&self.id)?;
        self.engine.pods.borrow_mut().retain(|id| *id != self.id);
        Ok(())
    }

    fn create(
        &self,
        name: &str,
        command: &[&str],
        annotations: &[(&str, &str)],
    ) -> Result<Container<'a>> {
        self.create_with(name, command, annotations, false)
    }

    fn create_with(
        &self,
        name: &str,
        command: &[&str],
        annotations: &[(&str, &str)],
        privileged: bool,
    ) -> Result<Container<'a>> {
        let spec = ContainerSpec {
            name: name.to_owned(),
            image: containerd::IMAGE.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            annotations: owned(annotations),
            privileged,
        };
        let id = self.engine.client().create(&self.id, &self.config, spec)?;
        Ok(self.created(name, id))
    }

    fn create_of(&self, config: ContainerConfig) -> Result<Container<'a>> {
        let name = config
            .metadata
            .as_ref()
            .map(|metadata| metadata.name.clone());
        let client = self.engine.client();
        let id = client.create_of(&self.id, &self.config, config)?;
        Ok(self.created(&name.unwrap_or_default(), id))
    }

    fn created(&self, name: &str, id: String) -> Container<'a> {
        protocol::log(format_args!("container {name} is {id}"));
        let log = format!("{}/{name}.log", self.config.log_directory);
        Container {
            engine: self.engine,
            id,
            log: log.into(),
        }
    }

    /// A container that is there when this returns.
    fn start(
        &self,
        name: &str,
        command: &[&str],
        annotations: &[(&str, &str)],
    ) -> Result<Container<'a>> {
        let container = self.create(name, command, annotations)?;
        container.start()?;
        Ok(container)
    }
}

struct Container<'a> {
    engine: &'a Engine,
    id: String,
    log: PathBuf,
}

impl Container<'_> {
    /// How long `StartContainer` took.
    fn start(&self) -> Result<Duration> {
        let began = Instant::now();
        let answer = self.engine.client().start(&self.id);
        let took = began.elapsed();
        protocol::log(format_args!(
            "StartContainer: {answer:?}, {} ms",
            took.as_millis()
        ));
        answer.map(|()| took)
    }

    fn status(&self) -> Result<Status> {
        self.engine.client().status(&self.id)
    }

    /// Waits until the container has ended.
    fn end(&self) -> Result<Status> {
        process::until(LIMIT, "the container to end", || {
            let status = self.status()?;
            Ok(status.is_over().then_some(status))
        })
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.engine.client().pid(&self.id)?).context("pid")
    }

    /// The cgroup of its first process.
    fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::of(self.pid()?)
    }

    fn remove(&self) -> Result<()> {
        self.engine.client().remove(&self.id)
    }

    /// What it wrote to standard output and errors.
    fn log(&self) -> Result<String> {
        let text = fs::read_to_string(&self.log)?;
        // "2026-01-01T00:00:00.000000000Z stdout F text"
        Ok(text
            .lines()
            .filter_map(|line| line.splitn(4, ' ').nth(3))
            .fold(String::new(), |all, line| all + line + "\n"))
    }

    /// The command runs inside and says this.
    fn runs(&self, command: &[&str], says: &str) -> Result<()> {
        let reply = self.engine.client().exec(&self.id, command)?;
        protocol::log(format_args!(
            "exec {command:?}: {} {}",
            reply.code,
            reply.said()
        ));
        ensure!(
            reply.code == 0 && reply.stdout() == says,
            "{command:?} ended with {} and said {:?}",
            reply.code,
            reply.said()
        );
        Ok(())
    }

    /// The command is refused with `EPERM`, whoever reports it: the runtime or a shell inside.
    fn refuses(&self, command: &[&str]) -> Result<()> {
        let (text, stdout) = match self.engine.client().exec(&self.id, command) {
            Ok(reply) if reply.code == 0 => bail!("{command:?} ran: {:?}", reply.said()),
            Ok(reply) => (format!("{} {}", reply.code, reply.said()), reply.stdout()),
            Err(error) => (format!("{error:#}"), String::new()),
        };
        protocol::log(format_args!("exec {command:?}: {text}"));
        ensure!(
            !stdout.contains("root"),
            "{command:?} ran and then failed: {text}"
        );
        ensure!(
            is_eperm(&text),
            "{command:?} failed, but not with EPERM: {text}"
        );
        Ok(())
    }

    /// Each exec takes seconds here: `cri/exec` has the other ways.
    fn is_protected(&self) -> Result<()> {
        self.refuses(&["whoami"])?;
        self.runs(&["id", "-u"], "0\n")
    }

    fn is_unprotected(&self) -> Result<()> {
        self.runs(&["whoami"], "root\n")?;
        let id = self.cgroup()?.id()?;
        ensure!(
            !execblock::bound_cgroups()?.contains(&id),
            "its cgroup is in the map"
        );
        Ok(())
    }
}

/// An empty folder for the logs of a pod.
fn log_directory(pod: &str) -> Result<String> {
    let dir = format!("{LOGS}/{pod}");
    if Path::new(&dir).exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn is_eperm(text: &str) -> bool {
    text.to_lowercase().contains("operation not permitted")
}

fn owned(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
