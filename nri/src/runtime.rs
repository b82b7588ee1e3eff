//! A runtime's end of a connection, to test and to measure plugins with.
//!
//! It calls as containerd 1.7 and 2.1 do: one request at a time, events other than
//! `CreateContainer` by `StateChange`, large states in several messages.

use std::{fmt, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future, stream};
use protobuf::{Message as _, MessageField};
use tokio::{net::UnixStream, sync::mpsc};
use ttrpc::{
    r#async::{Client, Server, TtrpcContext},
    asynchronous::transport::{Listener, Socket},
    context,
};

use crate::{
    Error,
    mux::{self, Trunk},
    proto::{
        ConfigureRequest, Container, ContainerAdjustment, CreateContainerRequest, Empty, Event,
        PodSandbox, RegisterPluginRequest, StateChangeEvent, SynchronizeRequest,
        nri_ttrpc::{self, PluginClient},
    },
};

/// The most that one message holds (`DefaultMaxMessageSize` of containerd/ttrpc is 4 MiB).
const MESSAGE: usize = 3 << 20;

/// A plugin that registered.
pub struct Peer {
    /// As it registered.
    pub name: String,
    /// As it registered.
    pub index: String,
    /// How long an answer may take.
    timeout: Duration,
    plugin: PluginClient,
    /// Both end with this.
    _server: Server,
    _trunk: Trunk,
}

impl fmt::Debug for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Peer");
        out.field("name", &self.name).field("index", &self.index);
        out.finish_non_exhaustive()
    }
}

impl Peer {
    /// Waits for the registration on a connection that was accepted.
    ///
    /// # Errors
    ///
    /// The connection ends before it came.
    pub async fn accept(socket: UnixStream, timeout: Duration) -> Result<Self, Error> {
        let (mut trunk, plugin, runtime) = mux::open(socket);
        let (sender, mut registered) = mpsc::unbounded_channel();
        let accepted = stream::once(future::ready(io::Result::Ok(runtime)));
        let mut server = Server::new()
            .add_listener(Listener::new(accepted.chain(stream::pending())))
            .register_service(nri_ttrpc::create_runtime(Arc::new(Registry(sender))));
        let serve = |source| Error::Serve { source };
        server.start().await.map_err(serve)?;
        let request = tokio::select! {
            Some(request) = registered.recv() => request,
            reason = trunk.closed() => return Err(reason),
        };
        Ok(Self {
            name: request.plugin_name,
            index: request.plugin_idx,
            timeout,
            plugin: PluginClient::new(Client::new(Socket::new(plugin))),
            _server: server,
            _trunk: trunk,
        })
    }

    /// Configures it; the events that it subscribes to, as
    /// [`Events::bits`](crate::Events::bits) numbers them.
    ///
    /// # Errors
    ///
    /// Its own, or none came in time.
    pub async fn configure(&self, name: &str, version: &str) -> ttrpc::Result<i32> {
        let milliseconds = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        let request = ConfigureRequest {
            runtime_name: name.to_owned(),
            runtime_version: version.to_owned(),
            registration_timeout: milliseconds,
            request_timeout: milliseconds,
            ..ConfigureRequest::default()
        };
        let answer = self.plugin.configure(self.within(), &request).await?;
        Ok(answer.events)
    }

    /// Tells it what there is, pods first, in as many messages as it takes.
    ///
    /// # Errors
    ///
    /// Its own, or none came in time.
    pub async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> ttrpc::Result<()> {
        let mut request = SynchronizeRequest::default();
        let mut size = 0;
        for pod in pods {
            self.make_room(&mut request, &mut size, pod.compute_size())
                .await?;
            request.pods.push(pod);
        }
        for container in containers {
            self.make_room(&mut request, &mut size, container.compute_size())
                .await?;
            request.containers.push(container);
        }
        self.plugin
            .synchronize(self.within(), &request)
            .await
            .map(drop)
    }

    /// Sends what is gathered where that many bytes more do not fit.
    async fn make_room(
        &self,
        request: &mut SynchronizeRequest,
        size: &mut usize,
        next: u64,
    ) -> ttrpc::Result<()> {
        let next = usize::try_from(next).unwrap_or(usize::MAX);
        if size.saturating_add(next) > MESSAGE {
            let mut full = std::mem::take(request);
            full.more = true;
            self.plugin.synchronize(self.within(), &full).await?;
            *size = 0;
        }
        *size += next;
        Ok(())
    }

    /// Has it see a container before it is made.
    ///
    /// # Errors
    ///
    /// Its own, or none came in time.
    pub async fn create(
        &self,
        pod: &PodSandbox,
        container: &Container,
    ) -> ttrpc::Result<ContainerAdjustment> {
        let request = CreateContainerRequest {
            pod: MessageField::some(pod.clone()),
            container: MessageField::some(container.clone()),
            ..CreateContainerRequest::default()
        };
        let answer = self
            .plugin
            .create_container(self.within(), &request)
            .await?;
        Ok(answer.adjust.unwrap_or_default())
    }

    /// Has it see a container that is about to start.
    ///
    /// # Errors
    ///
    /// Its own, which refuses the start, or none came in time.
    pub async fn start(&self, pod: &PodSandbox, container: &Container) -> ttrpc::Result<()> {
        self.change(Event::START_CONTAINER, pod, container).await
    }

    /// Has it see a container that is gone.
    ///
    /// # Errors
    ///
    /// Its own, or none came in time.
    pub async fn remove(&self, pod: &PodSandbox, container: &Container) -> ttrpc::Result<()> {
        self.change(Event::REMOVE_CONTAINER, pod, container).await
    }

    async fn change(
        &self,
        event: Event,
        pod: &PodSandbox,
        container: &Container,
    ) -> ttrpc::Result<()> {
        let change = StateChangeEvent {
            event: event.into(),
            pod: MessageField::some(pod.clone()),
            container: MessageField::some(container.clone()),
            ..StateChangeEvent::default()
        };
        let answer = self.plugin.state_change(self.within(), &change).await;
        answer.map(drop)
    }

    fn within(&self) -> context::Context {
        context::with_duration(self.timeout)
    }
}

/// Takes any plugin.
struct Registry(mpsc::UnboundedSender<RegisterPluginRequest>);

#[async_trait]
impl nri_ttrpc::Runtime for Registry {
    async fn register_plugin(
        &self,
        _: &TtrpcContext,
        request: RegisterPluginRequest,
    ) -> ttrpc::Result<Empty> {
        // Nobody waits for a second one.
        drop(self.0.send(request));
        Ok(Empty::default())
    }
}
