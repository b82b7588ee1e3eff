//! The NRI plugin: hands what the runtime says to the daemon and its answer
//! back. Has no state of its own.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError, mpsc::Sender},
};

use execblock::{node::Node, record::Owner, site::Namespaces};
use nri::{
    ConnectionEvent, Events, HandlerResult, Runtime,
    annotation::Annotations,
    proto::{Container, ContainerState, PodSandbox},
};
use tokio::sync::oneshot;

use crate::daemon::{Event, Start};

/// Implements [`nri::Plugin`].
#[derive(Debug)]
pub(crate) struct Plugin {
    daemon: Sender<Event>,
    node: Node,
    /// Name of the runtime that is connected.
    engine: Mutex<String>,
    /// Its namespaces.
    namespaces: Mutex<Namespaces>,
}

impl Plugin {
    pub(crate) fn new(daemon: Sender<Event>) -> Self {
        Self {
            daemon,
            node: Node::default(),
            engine: Mutex::default(),
            namespaces: Mutex::default(),
        }
    }

    /// Sends an event and waits for the answer. Fails closed: no daemon, no
    /// container.
    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "execblock: the daemon is gone, see its log".to_owned();
        self.daemon.send(event(reply)).map_err(|_closed| gone())?;
        answer.await.map_err(|_dropped| gone())
    }

    /// Whose programs are exempted from allow-lists and drift on their way into a
    /// container. Fails closed: where that is not known, nobody's are.
    fn connected(&self, runtime: Option<i32>) {
        let namespaces = match runtime.map(Namespaces::of) {
            Some(Ok(namespaces)) => namespaces,
            Some(Err(error)) => {
                log::warn!("{error}: exec into containers with allow-list or drift may fail");
                Namespaces::default()
            }
            None => {
                log::warn!(
                    "the runtime is in a pid namespace that is not seen here: exec into \
                     containers with allow-list or drift may fail"
                );
                Namespaces::default()
            }
        };
        *self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = namespaces;
    }

    fn start(&self, pod: &PodSandbox, container: &Container) -> Option<Start> {
        let annotations = Annotations::of(pod, container);
        let annotations: Vec<_> = annotations
            .effective_with_prefix(execblock::annotation::PREFIX)
            .into_iter()
            .map(|one| {
                (
                    one.written.to_owned(),
                    one.key.to_owned(),
                    one.value.to_owned(),
                )
            })
            .collect();
        // Defaults hold for containers without annotations too.
        if annotations.is_empty() && !self.node.has_config() {
            return None;
        }
        let engine = self
            .engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Some(Start {
            owner: Owner {
                container: container.id.clone(),
                name: container.name.clone(),
                engine,
                pod: pod.name.clone(),
                namespace: pod.namespace.clone(),
                image: execblock::oci::image(|key| container.annotations.get(key)).to_owned(),
            },
            // Process ids are at most 4,194,304; 0 is none.
            pid: i32::try_from(container.pid).unwrap_or(0),
            cgroups_path: container.linux.cgroups_path.clone(),
            runtime: *self
                .namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            annotations,
            labels: pod.labels.clone().into_iter().collect(),
        })
    }
}

impl nri::Plugin for Plugin {
    fn events(&self) -> Events {
        Events::START_CONTAINER.union(Events::REMOVE_CONTAINER)
    }

    async fn configure(&self, runtime: Runtime) -> HandlerResult {
        log::info!("connected to {} {}", runtime.name, runtime.version);
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = runtime.name;
        Ok(())
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> HandlerResult {
        let none = PodSandbox::default();
        let running = |container: &&Container| {
            // What is only created is still to be started, and bound then.
            container.state == ContainerState::CONTAINER_RUNNING.into()
                || container.state == ContainerState::CONTAINER_PAUSED.into()
        };
        let starts: Vec<Start> = containers
            .iter()
            .filter(running)
            .filter_map(|container| {
                let pod = pods.iter().find(|pod| pod.id == container.pod_sandbox_id);
                self.start(pod.unwrap_or(&none), container)
            })
            .collect();
        let known: HashSet<String> = containers
            .into_iter()
            .map(|container| container.id)
            .collect();
        self.ask(|reply| Event::Synchronize {
            starts,
            known,
            reply,
        })
        .await?;
        Ok(())
    }

    async fn start_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        // Nothing can hold for it: not looked at any further.
        let Some(start) = self.start(&pod, &container) else {
            return Ok(());
        };
        self.ask(|reply| Event::Start { start, reply }).await??;
        Ok(())
    }

    async fn remove_container(&self, _pod: PodSandbox, container: Container) -> HandlerResult {
        self.ask(|reply| Event::Remove {
            container: container.id,
            reply,
        })
        .await?;
        Ok(())
    }

    fn connection(&self, event: &ConnectionEvent<'_>) {
        match event {
            ConnectionEvent::Connected { runtime, .. } => self.connected(*runtime),
            ConnectionEvent::Ready => log::info!("registered: annotated containers are bound"),
            ConnectionEvent::Disconnected {
                reason,
                retry_in: Some(delay),
            } => log::warn!(
                "no connection to the runtime, trying again in {delay:?}: {reason}; rules hold, \
                 new containers are not bound"
            ),
            ConnectionEvent::Disconnected {
                reason,
                retry_in: None,
            } => {
                log::warn!("the connection to the runtime ended: {reason}");
            }
            _ => {}
        }
    }
}
