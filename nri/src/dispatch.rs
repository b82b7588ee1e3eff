//! From the runtime's calls to the plugin's handlers.

use std::{future::Future, sync::Arc};

use protobuf::{Enum as _, MessageField};
use ttrpc::{Code, r#async::TtrpcContext};

use crate::{
    HandlerResult, Plugin, guard,
    proto::{Container, Event, PodSandbox},
    service::Service,
};

impl<P: Plugin> Service<P> {
    /// Has the plugin answer a call, in time.
    pub(crate) async fn call<T, F>(
        &self,
        call: &'static str,
        context: &TtrpcContext,
        handler: impl FnOnce(Arc<P>) -> F,
    ) -> ttrpc::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = HandlerResult<T>> + Send + 'static,
    {
        let limit = self.limit(context.timeout_nano);
        log::trace!("{call}: {limit:?} to answer");
        guard::run(call, limit, handler(self.plugin())).await
    }

    /// An event without an answer other than done or refused. Both ways in which
    /// runtimes send them, `StateChange` and methods of their own, lead here.
    pub(crate) async fn event(
        &self,
        context: &TtrpcContext,
        event: Event,
        pod: MessageField<PodSandbox>,
        container: MessageField<Container>,
    ) -> ttrpc::Result<()> {
        let call = name(event)?;
        let pod = required(call, "pod", pod)?;
        let container = match event {
            Event::RUN_POD_SANDBOX | Event::STOP_POD_SANDBOX | Event::REMOVE_POD_SANDBOX => {
                Container::default()
            }
            _ => required(call, "container", container)?,
        };
        let handler = |plugin: Arc<P>| async move {
            match event {
                Event::RUN_POD_SANDBOX => plugin.run_pod_sandbox(pod).await,
                Event::STOP_POD_SANDBOX => plugin.stop_pod_sandbox(pod).await,
                Event::REMOVE_POD_SANDBOX => plugin.remove_pod_sandbox(pod).await,
                Event::POST_CREATE_CONTAINER => plugin.post_create_container(pod, container).await,
                Event::START_CONTAINER => plugin.start_container(pod, container).await,
                Event::POST_START_CONTAINER => plugin.post_start_container(pod, container).await,
                Event::UPDATE_CONTAINER => plugin.update_container(pod, container).await,
                Event::POST_UPDATE_CONTAINER => plugin.post_update_container(pod, container).await,
                Event::STOP_CONTAINER => plugin.stop_container(pod, container).await,
                Event::REMOVE_CONTAINER => plugin.remove_container(pod, container).await,
                // Has no name, see above.
                Event::UNKNOWN | Event::CREATE_CONTAINER => Err("unexpected event".into()),
            }
        };
        self.call(call, context, handler).await
    }
}

/// What the event is called in logs and errors.
fn name(event: Event) -> ttrpc::Result<&'static str> {
    Ok(match event {
        Event::RUN_POD_SANDBOX => "run_pod_sandbox",
        Event::STOP_POD_SANDBOX => "stop_pod_sandbox",
        Event::REMOVE_POD_SANDBOX => "remove_pod_sandbox",
        Event::POST_CREATE_CONTAINER => "post_create_container",
        Event::START_CONTAINER => "start_container",
        Event::POST_START_CONTAINER => "post_start_container",
        Event::UPDATE_CONTAINER => "update_container",
        Event::POST_UPDATE_CONTAINER => "post_update_container",
        Event::STOP_CONTAINER => "stop_container",
        Event::REMOVE_CONTAINER => "remove_container",
        // Fails closed. A creation has an answer, and so always its own method.
        Event::UNKNOWN | Event::CREATE_CONTAINER => return Err(unexpected(event.value())),
    })
}

pub(crate) fn unexpected(event: i32) -> ttrpc::Error {
    guard::status(
        Code::INVALID_ARGUMENT,
        &format!("event {event}: not subscribed to"),
    )
}

/// A message that the call can't be without.
pub(crate) fn required<T>(
    call: &'static str,
    what: &str,
    field: MessageField<T>,
) -> ttrpc::Result<T> {
    // Fails closed: the plugin can't judge what it isn't shown.
    field.into_option().ok_or_else(|| {
        guard::status(
            Code::INVALID_ARGUMENT,
            &format!("{call}: request without {what}"),
        )
    })
}
