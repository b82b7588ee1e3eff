//! A plugin that logs its calls, and answers as the container's name says.

use std::sync::Mutex;

use tokio::sync::{mpsc, oneshot};

use super::runtime::soon;
use crate::{
    ConnectionEvent, Events, HandlerResult, Plugin, Runtime,
    proto::{Container, ContainerAdjustment, Hook, Hooks, KeyValue, OptionalInt, PodSandbox},
};
use protobuf::MessageField;

pub(super) struct Probe {
    log: mpsc::UnboundedSender<String>,
    runtime: Mutex<mpsc::UnboundedSender<Runtime>>,
    gate: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What the probe was called for.
pub(super) struct Log {
    lines: mpsc::UnboundedReceiver<String>,
    runtimes: mpsc::UnboundedReceiver<Runtime>,
    /// Lets the start of container `wait` be done.
    pub(super) gate: Option<oneshot::Sender<()>>,
}

impl Probe {
    pub(super) fn new() -> (Self, Log) {
        let (log, lines) = mpsc::unbounded_channel();
        let (runtime, runtimes) = mpsc::unbounded_channel();
        let (opened, gate) = oneshot::channel();
        let probe = Self {
            log,
            runtime: Mutex::new(runtime),
            gate: Mutex::new(Some(gate)),
        };
        (
            probe,
            Log {
                lines,
                runtimes,
                gate: Some(opened),
            },
        )
    }

    fn log(&self, line: impl Into<String>) {
        self.log.send(line.into()).ok();
    }

    fn container(&self, call: &str, pod: &PodSandbox, container: &Container) -> HandlerResult {
        self.log(format!(
            "{call} {}/{} {}",
            pod.name, container.name, container.pid
        ));
        match container.name.as_str() {
            "refuse" => Err("container is not to my liking".into()),
            "panic" => panic!("out of order"),
            _ => Ok(()),
        }
    }
}

impl Log {
    pub(super) async fn next(&mut self) -> String {
        soon(self.lines.recv()).await.unwrap()
    }

    pub(super) async fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.next().await, *line);
        }
    }

    pub(super) async fn runtime(&mut self) -> Runtime {
        soon(self.runtimes.recv()).await.unwrap()
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(String::as_str).collect();
    format!("[{}]", names.join(" "))
}

impl Plugin for Probe {
    fn events(&self) -> Events {
        Events::START_CONTAINER | Events::REMOVE_CONTAINER
    }

    async fn configure(&self, runtime: Runtime) -> HandlerResult {
        self.log("configure");
        self.runtime.lock().unwrap().send(runtime).ok();
        Ok(())
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> HandlerResult {
        let pods = names(pods.iter().map(|pod| &pod.name));
        let containers = names(containers.iter().map(|container| &container.name));
        self.log(format!("synchronize {pods} {containers}"));
        Ok(())
    }

    async fn run_pod_sandbox(&self, pod: PodSandbox) -> HandlerResult {
        self.log(format!("run_pod_sandbox {}", pod.name));
        Ok(())
    }

    async fn stop_pod_sandbox(&self, pod: PodSandbox) -> HandlerResult {
        self.log(format!("stop_pod_sandbox {}", pod.name));
        Ok(())
    }

    async fn remove_pod_sandbox(&self, pod: PodSandbox) -> HandlerResult {
        self.log(format!("remove_pod_sandbox {}", pod.name));
        Ok(())
    }

    /// As many bytes of environment as the container's pid says, and a hook.
    async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> HandlerResult<ContainerAdjustment> {
        self.container("create_container", &pod, &container)?;
        let value = "x".repeat(container.pid as usize);
        let timeout = MessageField::some(OptionalInt {
            value: 5,
            ..OptionalInt::default()
        });
        let hook = Hook {
            path: "/bin/hook".into(),
            timeout,
            ..Hook::default()
        };
        Ok(ContainerAdjustment {
            env: vec![KeyValue {
                key: "LONG".into(),
                value,
                ..KeyValue::default()
            }],
            hooks: MessageField::some(Hooks {
                create_runtime: vec![hook],
                ..Hooks::default()
            }),
            ..ContainerAdjustment::default()
        })
    }

    async fn post_create_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        self.container("post_create_container", &pod, &container)
    }

    async fn start_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        self.container("start_container", &pod, &container)?;
        match container.name.as_str() {
            "hang" => std::future::pending().await,
            "wait" => {
                let gate = self.gate.lock().unwrap().take().unwrap();
                gate.await?;
                self.log("waited");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn post_start_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        self.container("post_start_container", &pod, &container)
    }

    async fn update_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        self.container("update_container", &pod, &container)
    }

    async fn post_update_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        self.container("post_update_container", &pod, &container)
    }

    async fn stop_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        self.container("stop_container", &pod, &container)
    }

    async fn remove_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        self.container("remove_container", &pod, &container)
    }

    async fn shutdown(&self) -> HandlerResult {
        self.log("shutdown");
        Ok(())
    }

    fn connection(&self, event: &ConnectionEvent<'_>) {
        match event {
            ConnectionEvent::Connected { reconnects, .. } => {
                self.log(format!("connected {reconnects}"));
            }
            ConnectionEvent::Ready => self.log("ready"),
            ConnectionEvent::Disconnected { reason, retry_in } => {
                let next = if retry_in.is_some() { "retry" } else { "end" };
                self.log(format!("disconnected, {next}: {reason}"));
            }
        }
        // Must not end the session.
        panic!("a panic in the callback");
    }
}
