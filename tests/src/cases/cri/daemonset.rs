//! The DaemonSet of deploy/kustomize/base, as a kubelet would run it: execblock's own image, with the
//! privileges of the manifest and no others.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Container, Engine, IDLE, LIMIT, Pod, log_directory};
use crate::cases::Case;
use crate::containerd;
use crate::execblock;
use crate::kubelet::Node;
use crate::process;
use crate::protocol;

const MANIFEST: &str = include_str!("../../../../deploy/kustomize/base/daemonset.yaml");
const UNLOAD: &str = include_str!("../../../../deploy/kustomize/unload/daemonset.yaml");
const CONFIG: &str = include_str!("../../../../deploy/kustomize/base/config.toml");
/// Of this build's programs (`cargo xtask image --programs`).
const IMAGE: &str = "/payload/execblock.oci.tar";
const RUN: &str = "/run/execblock";

/// All that a daemon does with its capabilities: names, which is the least; whose exec is exempted;
/// which layer a file is on. For some containers of the pod, as users have it.
const RULES: &[(&str, &str)] = &[
    ("execblock/deny.container.bound", "whoami"),
    ("execblock/allow.container.bound", "busybox,id"),
    ("execblock/drift.container.bound", "deny"),
    ("execblock/deny.container.next", "whoami"),
];

pub(super) fn cases() -> Vec<Case> {
    vec![Case {
        limit: Duration::from_mins(12),
        ..Case::slow("cri/daemonset", |_| daemonset())
    }]
}

fn daemonset() -> Result<()> {
    execblock::unloaded()?;
    // A node that never had it.
    if Path::new(RUN).exists() {
        fs::remove_dir_all(RUN)?;
    }
    let engine = Engine::without_plugin()?;
    let node = Node::new(MANIFEST, &[("config.toml", CONFIG)])?;
    containerd::import(IMAGE, node.image()?, &engine.client())?;

    let first = Daemon::start(&engine, &node, "execblock-a")?;
    let pod = engine.pod("web", RULES)?;
    let bound = pod.start("bound", IDLE, &[])?;
    bound.is_protected()?;
    bound.refuses(&["sh", "-c", "cp /bin/busybox /id && exec /id -u"])?;
    pod.start("plain", IDLE, &[])?.is_unprotected()?;
    first.lists("bound")?;

    // As an update does it: the pod goes, and what is bound stays.
    first.pod.remove()?;
    bound.refuses(&["whoami"])?;
    let second = Daemon::start(&engine, &node, "execblock-b")?;
    ensure!(
        second.loaded.contains("loaded before"),
        "what was loaded was not left: {}",
        second.loaded
    );
    let next = pod.start("next", IDLE, &[])?;
    next.refuses(&["whoami"])?;
    // What the one bound, the other forgets.
    let id = bound.cgroup()?.id()?;
    bound.remove()?;
    process::until(LIMIT, "the entry to go", || {
        Ok((!execblock::bound_cgroups()?.contains(&id)).then_some(()))
    })?;

    // In the sandbox that is there: it has the same namespaces.
    second.container.remove()?;
    let said = to_their_ends(&second.pod, &Node::new(UNLOAD, &[])?)?;
    ensure!(
        !Path::new(execblock::PINS).exists(),
        "pins are left: {said}"
    );
    next.runs(&["whoami"], "root\n")?;
    execblock::unloaded()
}

/// Runs the init containers; what the last one said.
fn to_their_ends(pod: &Pod<'_>, node: &Node) -> Result<String> {
    let mut said = String::new();
    let (init, _) = node.containers()?;
    for config in init {
        let container = pod.create_of(config)?;
        container.start()?;
        let status = container.end()?;
        said = container.log()?;
        protocol::note(said.trim_end());
        ensure!(
            status.exit_code == 0,
            "it ended with {}: {said}",
            status.exit_code
        );
    }
    Ok(said)
}

/// A pod of the DaemonSet whose probe is content, and which is registered.
struct Daemon<'a> {
    pod: Pod<'a>,
    container: Container<'a>,
    /// What `execblock load` said.
    loaded: String,
}

impl<'a> Daemon<'a> {
    fn start(engine: &'a Engine, node: &Node, name: &str) -> Result<Self> {
        let pod = engine.run_pod(node.pod(name, log_directory(name)?), "runc")?;
        let loaded = to_their_ends(&pod, node)?;
        let (_, daemon) = node.containers()?;
        let container = pod.create_of(daemon)?;
        container.start()?;
        registered(node, &container).inspect_err(|_| {
            let log = container.log().unwrap_or_default();
            protocol::log(format_args!("the daemon: {log}"));
        })?;
        Ok(Self {
            pod,
            container,
            loaded,
        })
    }

    /// As `kubectl exec` asks it; the image has nothing else that could be run.
    fn lists(&self, container: &str) -> Result<()> {
        let client = self.pod.engine.client();
        let reply = client.exec(&self.container.id, &["/execblock", "status"])?;
        ensure!(
            reply.code == 0 && reply.stdout().contains(container),
            "status ended with {} and said {:?}",
            reply.code,
            reply.said()
        );
        Ok(())
    }
}

fn registered(node: &Node, container: &Container<'_>) -> Result<()> {
    let health = node.health()?;
    process::until(LIMIT, "the daemon to be registered", || {
        ensure!(!container.status()?.is_over(), "it ended");
        let ask = |path: &str| {
            let stream = TcpStream::connect((&*health.host, health.port))?;
            stream.set_read_timeout(Some(LIMIT))?;
            execblock::get(stream, path)
        };
        let healthy = ask(&health.path)?.starts_with("HTTP/1.1 200 ");
        let connected = execblock::metric_of(&ask("/metrics")?, "execblock_nri_connected")? > 0.5;
        Ok((healthy && connected).then_some(()))
    })
}
