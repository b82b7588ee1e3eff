//! A runtime for one plugin that it starts: it tells of containers that others made.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nri::proto::{Container, ContainerState, LinuxContainer, Mount, PodSandbox};
use nri::protobuf::MessageField;
use nri::runtime::Peer;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixListener;

use crate::crowd::Member;

/// A plugin that is connected.
#[derive(Debug)]
pub struct Runtime {
    executor: tokio::runtime::Runtime,
    peer: Peer,
    plugin: Child,
    _dir: tempfile::TempDir,
}

impl Runtime {
    /// Starts a plugin that is to connect to the socket, and configures it.
    ///
    /// # Errors
    ///
    /// It does not start, or does not register in that time, which each of its answers has.
    pub fn start(plugin: impl FnOnce(&Path) -> Command, timeout: Duration) -> Result<Self> {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("nri.sock");
        let guard = executor.enter();
        let listener = UnixListener::bind(&socket)?;
        drop(guard);
        let mut plugin = Ended(Some(plugin(&socket).spawn().context("the plugin")?));
        let registered = async {
            let (socket, _) = listener.accept().await?;
            let peer = Peer::accept(socket, timeout).await?;
            peer.configure("containerd", "v1.7.24").await?;
            Ok::<_, anyhow::Error>(peer)
        };
        let peer = executor
            .block_on(async { tokio::time::timeout(timeout, registered).await })
            .context("the plugin did not register")??;
        let plugin = plugin.0.take().context("no plugin")?;
        Ok(Self {
            executor,
            peer,
            plugin,
            _dir: dir,
        })
    }

    /// Tells it what there is.
    ///
    /// # Errors
    ///
    /// Its own, or none came in time.
    pub fn synchronize(&self, pods: Vec<PodSandbox>, containers: Vec<Container>) -> Result<()> {
        let answer = self.peer.synchronize(pods, containers);
        Ok(self.executor.block_on(answer)?)
    }

    /// A container is about to start.
    ///
    /// # Errors
    ///
    /// Its own, which refuses the start, or none came in time.
    pub fn start_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        Ok(self.executor.block_on(self.peer.start(pod, container))?)
    }

    /// A container is gone.
    ///
    /// # Errors
    ///
    /// Its own, or none came in time.
    pub fn remove_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        Ok(self.executor.block_on(self.peer.remove(pod, container))?)
    }

    /// The plugin's process.
    #[must_use]
    pub fn plugin(&self) -> Pid {
        Pid::from_child(&self.plugin)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        end(&mut self.plugin);
    }
}

/// A process that has no owner yet.
struct Ended(Option<Child>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _killed = kill_process(Pid::from_child(child), Signal::TERM);
    let _status: io::Result<_> = child.wait();
}

/// A pod as the kubelet makes them.
#[must_use]
pub fn pod(number: usize) -> PodSandbox {
    PodSandbox {
        id: format!("{number:064x}"),
        name: format!("shop-{number}"),
        uid: format!("00000000-0000-4000-8000-{number:012}"),
        namespace: "default".to_owned(),
        labels: pairs(
            "app.kubernetes.io",
            &["name", "instance", "version", "component"],
        )
        .collect(),
        annotations: pairs("kubernetes.io", &["config.seen", "config.source"]).collect(),
        runtime_handler: "runc".to_owned(),
        ..PodSandbox::default()
    }
}

/// A running container of that pod, with the environment and the mounts of a usual one.
#[must_use]
pub fn container<V: AsRef<str>>(
    number: usize,
    member: &Member,
    annotations: &[(&str, V)],
) -> Container {
    let annotations = annotations.iter();
    let env = (0..24).map(|n| format!("SHOP_SERVICE_{n}_ADDRESS=tcp://10.96.0.{n}:443"));
    let mounts = (0..8).map(|n| Mount {
        destination: format!("/var/run/volume-{n}"),
        type_: "bind".to_owned(),
        source: format!("/var/lib/kubelet/pods/{number}/volumes/{n}"),
        options: ["rbind", "rprivate", "ro"].map(str::to_owned).into(),
        ..Mount::default()
    });
    Container {
        id: format!("{:064x}", number + (1 << 32)),
        pod_sandbox_id: format!("{number:064x}"),
        name: "web".to_owned(),
        state: ContainerState::CONTAINER_RUNNING.into(),
        labels: pairs("io.kubernetes", &["container.name", "pod.name", "pod.uid"]).collect(),
        annotations: pairs("io.kubernetes", &["restartCount", "ports"])
            .chain(annotations.map(|(key, value)| ((*key).to_owned(), value.as_ref().to_owned())))
            .collect(),
        args: vec!["/usr/bin/web".to_owned()],
        env: env.collect(),
        mounts: mounts.collect(),
        pid: u32::try_from(member.pid().as_raw_pid()).unwrap_or(0),
        linux: MessageField::some(LinuxContainer {
            cgroups_path: member.path().to_owned(),
            ..LinuxContainer::default()
        }),
        ..Container::default()
    }
}

fn pairs<'a>(prefix: &'a str, keys: &'a [&str]) -> impl Iterator<Item = (String, String)> + 'a {
    let pair = move |key: &&str| (format!("{prefix}/{key}"), format!("the value of {key}"));
    keys.iter().map(pair)
}
