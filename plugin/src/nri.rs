//! The NRI plugin: hands what the runtime says to the daemon and its answer
//! back. Has no state of its own.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, mpsc::Sender},
};

use execblock::{node::Node, record::Owner, site::Namespaces};
use nri::{
    ConnectionEvent, Events, HandlerResult, Runtime,
    annotation::{self, Annotations},
    proto::{Container, ContainerAdjustment, ContainerState, PodSandbox},
};
use tokio::sync::oneshot;

use crate::{
    daemon::{self, Event, Start},
    inject::{self, Injection},
    memory,
    metrics::{Metrics, Request},
    service,
};

/// Implements [`nri::Plugin`].
#[derive(Debug)]
pub(crate) struct Plugin {
    daemon: Sender<Event>,
    node: Node,
    /// Name of the runtime that is connected.
    engine: Mutex<String>,
    /// Its namespaces.
    namespaces: Mutex<Namespaces>,
    injection: Injection,
    metrics: Arc<Metrics>,
}

impl Plugin {
    pub(crate) fn new(daemon: Sender<Event>, injection: Injection, metrics: Arc<Metrics>) -> Self {
        Self {
            daemon,
            node: Node::default(),
            engine: Mutex::default(),
            namespaces: Mutex::default(),
            injection,
            metrics,
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

    fn engine(&self) -> String {
        let engine = self.engine.lock();
        engine.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells those who watch.
    fn registered(&self, registered: bool) {
        self.metrics.connected(registered);
        let engine = self.engine();
        if registered {
            service::status(&format!("registered with {engine}"));
        } else {
            service::status("no connection to a container runtime; rules hold");
        }
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
        if annotations.is_empty() && !self.node.has_defaults() {
            return None;
        }
        Some(Start {
            owner: Owner {
                container: container.id.clone(),
                name: annotation::name(container).to_owned(),
                engine: self.engine(),
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
        let events = Events::START_CONTAINER | Events::REMOVE_CONTAINER;
        // Where a start can't be refused, a creation can.
        if self.injection != Injection::Off || self.engine() == daemon::GOES_ON {
            events | Events::CREATE_CONTAINER
        } else {
            events
        }
    }

    async fn configure(&self, runtime: Runtime) -> HandlerResult {
        log::info!("connected to {} {}", runtime.name, runtime.version);
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = runtime.name;
        self.metrics.begin(Request::Configure).end(Ok(()))
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> HandlerResult {
        let counted = self.metrics.begin(Request::Synchronize);
        let by_id: HashMap<&str, &PodSandbox> =
            pods.iter().map(|pod| (pod.id.as_str(), pod)).collect();
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
                let pod = by_id.get(container.pod_sandbox_id.as_str());
                self.start(pod.copied().unwrap_or(&none), container)
            })
            .collect();
        let known: HashSet<String> = containers
            .into_iter()
            .map(|container| container.id)
            .collect();
        let event = |reply| Event::Synchronize {
            starts,
            known,
            reply,
        };
        let answer = self.ask(event).await;
        // Of a large node it is a hundred megabytes, once.
        drop(pods);
        memory::give_back();
        Ok(counted.end(answer)?)
    }

    async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> HandlerResult<ContainerAdjustment> {
        let counted = self.metrics.begin(Request::Create);
        let unchanged = ContainerAdjustment::default();
        // Nothing can hold for it: not looked at any further.
        let Some(create) = self.start(&pod, &container) else {
            return counted.end(Ok(unchanged));
        };
        let annotations = create.annotations.clone();
        let hook = self.injection.hook().map_err(|error| error.to_string());
        let ready = hook.as_ref().map(drop).map_err(Clone::clone);
        let event = |reply| Event::Create {
            create,
            ready,
            reply,
        };
        let holds = counted.end(self.ask(event).await.flatten())?;
        Ok(match hook {
            Ok(Some(hook)) if holds => {
                let holding = annotations.iter().map(|(_, key, value)| (&**key, &**value));
                inject::adjustment(&hook, &pod, &container, holding)
            }
            _ => unchanged,
        })
    }

    async fn start_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        let counted = self.metrics.begin(Request::Start);
        // Nothing can hold for it: not looked at any further.
        let Some(start) = self.start(&pod, &container) else {
            return counted.end(Ok(()));
        };
        let answer = self.ask(|reply| Event::Start { start, reply }).await;
        Ok(counted.end(answer.flatten())?)
    }

    async fn remove_container(&self, _pod: PodSandbox, container: Container) -> HandlerResult {
        let counted = self.metrics.begin(Request::Remove);
        let event = |reply| Event::Remove {
            container: container.id,
            reply,
        };
        let answer = self.ask(event).await;
        Ok(counted.end(answer)?)
    }

    fn connection(&self, event: &ConnectionEvent<'_>) {
        match event {
            ConnectionEvent::Connected {
                runtime,
                reconnects,
            } => {
                self.metrics.connects(*reconnects != 0);
                self.connected(*runtime);
            }
            ConnectionEvent::Ready => {
                self.registered(true);
                log::info!("registered: annotated containers are bound");
            }
            ConnectionEvent::Disconnected {
                reason,
                retry_in: Some(delay),
            } => {
                self.registered(false);
                log::warn!(
                    "no connection to the runtime, trying again in {delay:?}: {reason}; rules \
                     hold, new containers are not bound"
                );
            }
            ConnectionEvent::Disconnected {
                reason,
                retry_in: None,
            } => {
                self.registered(false);
                log::warn!("the connection to the runtime ended: {reason}");
            }
            _ => {}
        }
    }
}
