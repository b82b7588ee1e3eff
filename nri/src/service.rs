//! The plugin service: what the runtime calls, translated to [`Plugin`].
//!
//! All generated methods must be here: the generated default would answer
//! `NOT_FOUND`, which fails a container, where `UNIMPLEMENTED` makes a runtime fall
//! back. Methods that the schema doesn't have are answered `UNIMPLEMENTED`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use protobuf::{Message as _, MessageField};
use ttrpc::{Code, r#async::TtrpcContext};

use crate::{
    ConnectionEvent, Plugin, Runtime, dispatch, guard, notify,
    proto::{
        ConfigureRequest, ConfigureResponse, Container, CreateContainerRequest,
        CreateContainerResponse, Empty, Event, PodSandbox, PostCreateContainerRequest,
        PostCreateContainerResponse, PostStartContainerRequest, PostStartContainerResponse,
        PostUpdateContainerRequest, PostUpdateContainerResponse, RemoveContainerRequest,
        RemoveContainerResponse, RemovePodSandboxRequest, RemovePodSandboxResponse,
        RunPodSandboxRequest, RunPodSandboxResponse, StartContainerRequest, StartContainerResponse,
        StateChangeEvent, StopContainerRequest, StopContainerResponse, StopPodSandboxRequest,
        StopPodSandboxResponse, SynchronizeRequest, SynchronizeResponse, UpdateContainerRequest,
        UpdateContainerResponse, nri_ttrpc,
    },
};

/// What one Synchronize may say of pods and containers, in bytes: some ten times what
/// 10,000 containers take. A runtime that never comes to its end must not take the
/// machine's memory.
const MOST_GATHERED: u64 = 256 << 20;

/// Serves one connection.
#[derive(Debug)]
pub(crate) struct Service<P> {
    plugin: Arc<P>,
    state: Mutex<State>,
}

/// What one connection's calls leave behind.
#[derive(Debug, Default)]
struct State {
    /// Whether Configure was called, and what it said.
    configured: bool,
    request_timeout: Option<Duration>,
    /// From Synchronize calls that said that more will follow. A container's pod
    /// may come in a later one.
    pods: Vec<PodSandbox>,
    containers: Vec<Container>,
    /// What these came in, in bytes on the wire.
    gathered: u64,
    /// Whether the plugin took part in a Synchronize to the end.
    ready: bool,
}

impl<P: Plugin> Service<P> {
    pub(crate) fn new(plugin: Arc<P>) -> Self {
        Self {
            plugin,
            state: Mutex::default(),
        }
    }

    /// Whether the plugin was synchronized, so that events followed.
    pub(crate) fn was_ready(&self) -> bool {
        self.with_state(|state| state.ready)
    }

    /// Whether the runtime has taken the plugin's registration.
    pub(crate) fn was_configured(&self) -> bool {
        self.with_state(|state| state.configured)
    }

    /// What a call can take at most, given the timeout it came with, 0 for none.
    pub(crate) fn limit(&self, timeout_nano: i64) -> Duration {
        guard::limit(self.with_state(|state| state.request_timeout), timeout_nano)
    }

    pub(crate) fn plugin(&self) -> Arc<P> {
        Arc::clone(&self.plugin)
    }

    fn with_state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        // No code of the plugin runs under the lock.
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Pods and containers, once the last message of a Synchronize came.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` where they take more than [`MOST_GATHERED`]; what was
    /// gathered is dropped.
    fn gather(
        &mut self,
        request: SynchronizeRequest,
    ) -> ttrpc::Result<Option<(Vec<PodSandbox>, Vec<Container>)>> {
        self.gathered += request.compute_size();
        if self.gathered > MOST_GATHERED {
            (self.pods, self.containers, self.gathered) = (Vec::new(), Vec::new(), 0);
            let message =
                format!("synchronize: pods and containers of more than {MOST_GATHERED} bytes");
            log::warn!("{message}: the runtime goes on without this plugin");
            return Err(guard::status(Code::RESOURCE_EXHAUSTED, &message));
        }
        self.pods.extend(request.pods);
        self.containers.extend(request.containers);
        if request.more {
            return Ok(None);
        }
        self.gathered = 0;
        let pods = std::mem::take(&mut self.pods);
        Ok(Some((pods, std::mem::take(&mut self.containers))))
    }
}

/// Zero and less stand for "not said".
fn milliseconds(value: i64) -> Option<Duration> {
    u64::try_from(value)
        .ok()
        .filter(|&value| value > 0)
        .map(Duration::from_millis)
}

#[async_trait]
impl<P: Plugin> nri_ttrpc::Plugin for Service<P> {
    async fn configure(
        &self,
        context: &TtrpcContext,
        request: ConfigureRequest,
    ) -> ttrpc::Result<ConfigureResponse> {
        let runtime = Runtime {
            name: request.runtime_name,
            version: request.runtime_version,
            nri_version: Some(request.NRI_version).filter(|version| !version.is_empty()),
            config: request.config,
            registration_timeout: milliseconds(request.registration_timeout),
            request_timeout: milliseconds(request.request_timeout),
        };
        self.with_state(|state| {
            state.configured = true;
            state.request_timeout = runtime.request_timeout;
        });
        let handler = |plugin: Arc<P>| async move {
            plugin.configure(runtime).await?;
            Ok(plugin.events())
        };
        // Fails open on an error: the runtime goes on without the plugin.
        let events = self.call("configure", context, handler).await?;
        log::debug!("subscribed to {events:?}");
        Ok(ConfigureResponse {
            events: events.bits(),
            ..ConfigureResponse::default()
        })
    }

    async fn synchronize(
        &self,
        context: &TtrpcContext,
        request: SynchronizeRequest,
    ) -> ttrpc::Result<SynchronizeResponse> {
        // Fails open where there is no end of it: the runtime goes on without the plugin.
        let whole = self.with_state(|state| state.gather(request))?;
        let Some((pods, containers)) = whole else {
            // The runtime gives up on a plugin that doesn't say it back.
            return Ok(SynchronizeResponse {
                more: true,
                ..SynchronizeResponse::default()
            });
        };
        let handler = |plugin: Arc<P>| async move { plugin.synchronize(pods, containers).await };
        // Fails open on an error: the runtime goes on without the plugin.
        self.call("synchronize", context, handler).await?;
        self.with_state(|state| state.ready = true);
        notify(&*self.plugin, &ConnectionEvent::Ready);
        Ok(SynchronizeResponse::default())
    }

    async fn shutdown(&self, context: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        let handler = |plugin: Arc<P>| async move { plugin.shutdown().await };
        self.call("shutdown", context, handler).await?;
        Ok(Empty::default())
    }

    async fn create_container(
        &self,
        context: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> ttrpc::Result<CreateContainerResponse> {
        let pod = dispatch::required("create_container", "pod", request.pod)?;
        let container = dispatch::required("create_container", "container", request.container)?;
        let handler = |plugin: Arc<P>| async move { plugin.create_container(pod, container).await };
        let adjust = self.call("create_container", context, handler).await?;
        Ok(CreateContainerResponse {
            adjust: MessageField::some(adjust),
            ..CreateContainerResponse::default()
        })
    }

    /// All other events, from runtimes before NRI 0.12.
    async fn state_change(
        &self,
        context: &TtrpcContext,
        change: StateChangeEvent,
    ) -> ttrpc::Result<Empty> {
        // Fails closed: an event that isn't known can't have been subscribed to.
        let event = change.event.enum_value().map_err(dispatch::unexpected)?;
        self.event(context, event, change.pod, change.container)
            .await?;
        Ok(Empty::default())
    }

    async fn run_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: RunPodSandboxRequest,
    ) -> ttrpc::Result<RunPodSandboxResponse> {
        self.event(
            context,
            Event::RUN_POD_SANDBOX,
            request.pod,
            MessageField::none(),
        )
        .await?;
        Ok(RunPodSandboxResponse::default())
    }

    async fn stop_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: StopPodSandboxRequest,
    ) -> ttrpc::Result<StopPodSandboxResponse> {
        self.event(
            context,
            Event::STOP_POD_SANDBOX,
            request.pod,
            MessageField::none(),
        )
        .await?;
        Ok(StopPodSandboxResponse::default())
    }

    async fn remove_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: RemovePodSandboxRequest,
    ) -> ttrpc::Result<RemovePodSandboxResponse> {
        self.event(
            context,
            Event::REMOVE_POD_SANDBOX,
            request.pod,
            MessageField::none(),
        )
        .await?;
        Ok(RemovePodSandboxResponse::default())
    }

    async fn post_create_container(
        &self,
        context: &TtrpcContext,
        request: PostCreateContainerRequest,
    ) -> ttrpc::Result<PostCreateContainerResponse> {
        self.event(
            context,
            Event::POST_CREATE_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(PostCreateContainerResponse::default())
    }

    async fn start_container(
        &self,
        context: &TtrpcContext,
        request: StartContainerRequest,
    ) -> ttrpc::Result<StartContainerResponse> {
        self.event(
            context,
            Event::START_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(StartContainerResponse::default())
    }

    async fn post_start_container(
        &self,
        context: &TtrpcContext,
        request: PostStartContainerRequest,
    ) -> ttrpc::Result<PostStartContainerResponse> {
        self.event(
            context,
            Event::POST_START_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(PostStartContainerResponse::default())
    }

    async fn update_container(
        &self,
        context: &TtrpcContext,
        request: UpdateContainerRequest,
    ) -> ttrpc::Result<UpdateContainerResponse> {
        self.event(
            context,
            Event::UPDATE_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(UpdateContainerResponse::default())
    }

    async fn post_update_container(
        &self,
        context: &TtrpcContext,
        request: PostUpdateContainerRequest,
    ) -> ttrpc::Result<PostUpdateContainerResponse> {
        self.event(
            context,
            Event::POST_UPDATE_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(PostUpdateContainerResponse::default())
    }

    async fn stop_container(
        &self,
        context: &TtrpcContext,
        request: StopContainerRequest,
    ) -> ttrpc::Result<StopContainerResponse> {
        self.event(
            context,
            Event::STOP_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(StopContainerResponse::default())
    }

    async fn remove_container(
        &self,
        context: &TtrpcContext,
        request: RemoveContainerRequest,
    ) -> ttrpc::Result<RemoveContainerResponse> {
        self.event(
            context,
            Event::REMOVE_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(RemoveContainerResponse::default())
    }
}
