//! What a plugin implements.

use std::{error, future::Future, time::Duration};

use crate::{
    Error, Events,
    proto::{Container, ContainerAdjustment, PodSandbox},
};

/// What a handler answers.
///
/// Any error will do, also a text: `Err("no such profile".into())`. The runtime
/// is told the error followed by its sources, separated by `: `.
pub type HandlerResult<T = ()> = Result<T, Box<dyn error::Error + Send + Sync>>;

/// What the runtime says of itself when it configures the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Runtime {
    /// `containerd`, `cri-o` or `docker`.
    pub name: String,
    /// Of the runtime; its form is the runtime's.
    pub version: String,
    /// Of its NRI, `None` before NRI 0.12.
    pub nri_version: Option<String>,
    /// The plugin's configuration, empty if it isn't a pre-installed one.
    pub config: String,
    /// What the runtime waits for a registration, `None` before NRI 0.7.
    pub registration_timeout: Option<Duration>,
    /// What the runtime waits for an answer before it goes on without the
    /// plugin, `None` before NRI 0.7. Handlers have 80 % of it.
    pub request_timeout: Option<Duration>,
}

/// What happens to the connection; see [`Plugin::connection`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionEvent<'a> {
    /// There is a connection, and the plugin is about to register.
    Connected {
        /// How often there was one before.
        reconnects: u64,
        /// Process id of the runtime, in this pid namespace (`SO_PEERCRED`).
        /// `None` where it is in another one that this one does not see.
        runtime: Option<i32>,
    },
    /// The plugin is registered and synchronized: events follow.
    ///
    /// Runtimes before NRI 0.7 don't synchronize pre-installed plugins.
    Ready,
    /// There is no connection: it could not be made, was lost, or the runtime
    /// did not take the plugin. The runtime starts containers nevertheless.
    Disconnected {
        /// What ended it.
        reason: &'a Error,
        /// When it is tried again; `None` if it isn't.
        retry_in: Option<Duration>,
    },
}

/// A plugin: handlers for the events that it subscribes to.
///
/// An error from a handler goes to the runtime, which refuses what it was about
/// to do, where it can: `create_container` on containerd and CRI-O,
/// `start_container` on containerd only. So does a panic, and a handler that
/// takes longer than 80 % of the runtime's timeout: it is dropped at its next
/// `await`. When the connection is lost, a handler runs on until it is done or
/// out of time.
///
/// Handlers must not block their thread for long, and must be idempotent: an
/// event may come again after a reconnect. Runtimes send events one at a time.
///
/// The handlers can be written as `async fn`.
pub trait Plugin: Send + Sync + 'static {
    /// The events to be called for. Asked after [`configure`](Self::configure).
    fn events(&self) -> Events;

    /// The runtime has accepted the registration and says what it is.
    ///
    /// An error makes the runtime drop the connection (and go on without the
    /// plugin: this fails open).
    fn configure(&self, _runtime: Runtime) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// All pods and containers that exist. Called once for each connection,
    /// before any event.
    ///
    /// A container in state created may have no pid; its start is still to come.
    /// An error makes the runtime drop the connection (and go on without the
    /// plugin: this fails open).
    fn synchronize(
        &self,
        _pods: Vec<PodSandbox>,
        _containers: Vec<Container>,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::RUN_POD_SANDBOX`].
    fn run_pod_sandbox(&self, _pod: PodSandbox) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::STOP_POD_SANDBOX`].
    fn stop_pod_sandbox(&self, _pod: PodSandbox) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::REMOVE_POD_SANDBOX`].
    fn remove_pod_sandbox(&self, _pod: PodSandbox) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::CREATE_CONTAINER`]. What is returned changes the container;
    /// the default does not. An error refuses the container.
    fn create_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult<ContainerAdjustment>> + Send {
        async { Ok(ContainerAdjustment::default()) }
    }

    /// See [`Events::POST_CREATE_CONTAINER`].
    fn post_create_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::START_CONTAINER`]. An error refuses the container on
    /// containerd; CRI-O logs it and starts the container.
    fn start_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::POST_START_CONTAINER`].
    fn post_start_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::UPDATE_CONTAINER`].
    fn update_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::POST_UPDATE_CONTAINER`].
    fn post_update_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::STOP_CONTAINER`].
    fn stop_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// See [`Events::REMOVE_CONTAINER`].
    fn remove_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// The runtime is going down. No runtime is known to say so.
    fn shutdown(&self) -> impl Future<Output = HandlerResult> + Send {
        async { Ok(()) }
    }

    /// What happens to the connection, for logs and counters. Must not block.
    fn connection(&self, _event: &ConnectionEvent<'_>) {}
}
