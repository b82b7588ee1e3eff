//! Events, and what becomes of handlers that don't just answer.

use std::time::{Duration, Instant};

use protobuf::{EnumOrUnknown, MessageField};
use ttrpc::{Code, Request, Status};

use super::{
    Pair, ready,
    runtime::{soon, within},
};
use crate::proto::{
    Container, CreateContainerRequest, Empty, Event, PodSandbox, PostCreateContainerRequest,
    PostStartContainerRequest, PostUpdateContainerRequest, RemoveContainerRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StateChangeEvent,
    StopContainerRequest, StopPodSandboxRequest, UpdateContainerRequest,
};

fn pod() -> MessageField<PodSandbox> {
    MessageField::some(PodSandbox {
        name: "pod".into(),
        ..PodSandbox::default()
    })
}

fn container(name: &str) -> MessageField<Container> {
    MessageField::some(Container {
        name: name.into(),
        pid: 7,
        ..Container::default()
    })
}

fn start(name: &str) -> StartContainerRequest {
    let container = container(name);
    StartContainerRequest {
        pod: pod(),
        container,
        ..StartContainerRequest::default()
    }
}

fn change(event: Event, name: &str) -> StateChangeEvent {
    StateChangeEvent {
        event: EnumOrUnknown::new(event),
        pod: pod(),
        container: container(name),
        ..StateChangeEvent::default()
    }
}

fn status<T: std::fmt::Debug>(answer: ttrpc::Result<T>) -> Status {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_methods_of_nri_0_12() {
    let mut pair = ready(2000).await;
    let plugin = &pair.runtime.plugin;
    macro_rules! call {
        ($method:ident, $request:ident { $($field:ident: $value:expr),* }, $line:literal) => {
            let request = $request { $($field: $value,)* ..$request::default() };
            plugin.$method(within(), &request).await.unwrap();
            pair.log.expect(&[$line]).await;
        };
        (container $method:ident, $request:ident, $line:literal) => {
            call!($method, $request { pod: pod(), container: container("c") }, $line);
        };
    }
    call!(
        run_pod_sandbox,
        RunPodSandboxRequest { pod: pod() },
        "run_pod_sandbox pod"
    );
    call!(container create_container, CreateContainerRequest, "create_container pod/c 7");
    call!(container post_create_container, PostCreateContainerRequest, "post_create_container pod/c 7");
    call!(container start_container, StartContainerRequest, "start_container pod/c 7");
    call!(container post_start_container, PostStartContainerRequest, "post_start_container pod/c 7");
    call!(container update_container, UpdateContainerRequest, "update_container pod/c 7");
    call!(container post_update_container, PostUpdateContainerRequest, "post_update_container pod/c 7");
    call!(container stop_container, StopContainerRequest, "stop_container pod/c 7");
    call!(container remove_container, RemoveContainerRequest, "remove_container pod/c 7");
    call!(
        stop_pod_sandbox,
        StopPodSandboxRequest { pod: pod() },
        "stop_pod_sandbox pod"
    );
    call!(
        remove_pod_sandbox,
        RemovePodSandboxRequest { pod: pod() },
        "remove_pod_sandbox pod"
    );
    plugin.shutdown(within(), &Empty::default()).await.unwrap();
    pair.log.expect(&["shutdown"]).await;
}

#[tokio::test]
async fn state_changes_before_nri_0_12() {
    let mut pair = ready(0).await;
    let events = [
        (Event::RUN_POD_SANDBOX, "run_pod_sandbox pod"),
        (
            Event::POST_CREATE_CONTAINER,
            "post_create_container pod/c 7",
        ),
        (Event::START_CONTAINER, "start_container pod/c 7"),
        (Event::POST_START_CONTAINER, "post_start_container pod/c 7"),
        (
            Event::POST_UPDATE_CONTAINER,
            "post_update_container pod/c 7",
        ),
        (Event::REMOVE_CONTAINER, "remove_container pod/c 7"),
        (Event::STOP_POD_SANDBOX, "stop_pod_sandbox pod"),
        (Event::REMOVE_POD_SANDBOX, "remove_pod_sandbox pod"),
    ];
    for (event, line) in events {
        pair.runtime
            .plugin
            .state_change(within(), &change(event, "c"))
            .await
            .unwrap();
        pair.log.expect(&[line]).await;
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let pair = ready(2000).await;
    let plugin = &pair.runtime.plugin;
    let mut unknown = change(Event::UNKNOWN, "c");
    unknown.event = EnumOrUnknown::from_i32(99);
    for event in [
        change(Event::UNKNOWN, "c"),
        change(Event::CREATE_CONTAINER, "c"),
        unknown,
    ] {
        let status = status(plugin.state_change(within(), &event).await);
        assert_eq!(status.code(), Code::INVALID_ARGUMENT, "{status:?}");
    }
    let answer = plugin
        .start_container(within(), &StartContainerRequest::default())
        .await;
    assert_eq!(
        status(answer).message,
        "start_container: request without pod"
    );
    let mut event = change(Event::START_CONTAINER, "c");
    event.container = MessageField::none();
    let answer = plugin.state_change(within(), &event).await;
    assert_eq!(
        status(answer).message,
        "start_container: request without container"
    );
}

/// NRI 0.12 falls back to `StateChange` on this code only; any other fails the
/// container.
#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented() {
    let pair = ready(2000).await;
    for method in [
        "ValidateContainerAdjustment",
        "UpdatePodSandbox",
        "PostUpdatePodSandbox",
    ] {
        let request = Request {
            service: "nri.pkg.api.v1alpha1.Plugin".into(),
            method: method.into(),
            ..Request::default()
        };
        let answer = soon(pair.runtime.client.request(request)).await;
        assert_eq!(status(answer).code(), Code::UNIMPLEMENTED);
    }
}

/// Both ways of starting a container.
async fn start_both_ways(pair: &Pair, name: &str) -> [Status; 2] {
    let dedicated = pair
        .runtime
        .plugin
        .start_container(within(), &start(name))
        .await;
    let event = change(Event::START_CONTAINER, name);
    let changed = pair.runtime.plugin.state_change(within(), &event).await;
    [status(dedicated), status(changed)]
}

#[tokio::test]
async fn an_error_refuses_the_container() {
    let pair = ready(2000).await;
    for status in start_both_ways(&pair, "refuse").await {
        assert_eq!(status.code(), Code::INTERNAL);
        assert_eq!(status.message, "container is not to my liking");
    }
    let request = CreateContainerRequest {
        pod: pod(),
        container: container("refuse"),
        ..CreateContainerRequest::default()
    };
    let answer = pair
        .runtime
        .plugin
        .create_container(within(), &request)
        .await;
    assert_eq!(status(answer).message, "container is not to my liking");
}

#[tokio::test]
async fn a_panic_refuses_the_container() {
    let pair = ready(2000).await;
    for status in start_both_ways(&pair, "panic").await {
        assert_eq!(status.code(), Code::INTERNAL);
        assert_eq!(status.message, "panicked: out of order");
    }
    // And it is the container's misfortune alone.
    pair.runtime
        .plugin
        .start_container(within(), &start("c"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_handler_that_hangs_refuses_the_container_before_the_runtime_gives_up() {
    let pair = ready(500).await;
    let begun = Instant::now();
    let answer = pair
        .runtime
        .plugin
        .start_container(within(), &start("hang"))
        .await;
    assert_eq!(status(answer).message, "not done within 400ms");
    assert!(begun.elapsed() >= Duration::from_millis(400));
    // The call's own timeout is the shorter one. It is long enough for a busy
    // machine to answer in the fifth that is left.
    let pair = ready(60_000).await;
    let own = ttrpc::context::with_duration(Duration::from_secs(2));
    let answer = pair
        .runtime
        .plugin
        .start_container(own, &start("hang"))
        .await;
    assert_eq!(status(answer).message, "not done within 1.6s");
}

#[tokio::test]
async fn a_call_in_progress_is_answered_before_the_connection_closes() {
    let mut pair = ready(2000).await;
    let request = start("wait");
    let plugin = pair.runtime.plugin.clone();
    let call = tokio::spawn(async move { plugin.start_container(within(), &request).await });
    pair.log.expect(&["start_container pod/wait 7"]).await;
    let session = tokio::spawn(pair.session.shut_down());
    // Let the session see it first, or the test would show nothing.
    tokio::task::yield_now().await;
    pair.log.gate.take().unwrap().send(()).unwrap();
    soon(call).await.unwrap().unwrap();
    soon(session).await.unwrap().unwrap();
    pair.log.expect(&["waited"]).await;
}

/// The runtime starts the container then; what the handler does must be whole.
#[tokio::test]
async fn a_handler_runs_on_when_the_connection_is_lost() {
    let mut pair = ready(2000).await;
    let request = start("wait");
    let plugin = pair.runtime.plugin.clone();
    let call = tokio::spawn(async move { plugin.start_container(within(), &request).await });
    pair.log.expect(&["start_container pod/wait 7"]).await;
    call.abort();
    pair.runtime.stop().await;
    pair.session.ended().await.unwrap();
    pair.log
        .expect(&["disconnected, end: connection closed by the runtime"])
        .await;
    pair.log.gate.take().unwrap().send(()).unwrap();
    pair.log.expect(&["waited"]).await;
}

#[tokio::test]
async fn large_answers_in_frames_that_go_can_read() {
    let pair = ready(20_000).await;
    for length in [3000, 4000, 4086, 4096, 5000, 100_000, 3_000_000] {
        let before = pair.runtime.frames(1).len();
        let mut large = container("c");
        large.mut_or_insert_default().pid = length;
        let request = CreateContainerRequest {
            pod: pod(),
            container: large,
            ..CreateContainerRequest::default()
        };
        let answer = pair
            .runtime
            .plugin
            .create_container(within(), &request)
            .await;
        assert_eq!(pair.runtime.fatal(), None, "{length}");
        let adjust = answer.unwrap().adjust.unwrap();
        assert_eq!(adjust.env[0].value.len(), length as usize);
        let hook = &adjust.hooks.create_runtime[0];
        assert_eq!((hook.path.as_str(), hook.timeout.value), ("/bin/hook", 5));
        let frames = pair.runtime.frames(1).split_off(before);
        assert!(frames[0] <= 4096 && frames.len() <= 2, "{frames:?}");
    }
}

/// More than a message may hold: the answer is an error, not silence.
#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error() {
    let pair = ready(20_000).await;
    let mut large = container("c");
    large.mut_or_insert_default().pid = 5 << 20;
    let request = CreateContainerRequest {
        pod: pod(),
        container: large,
        ..CreateContainerRequest::default()
    };
    let answer = pair
        .runtime
        .plugin
        .create_container(within(), &request)
        .await;
    assert_eq!(status(answer).code(), Code::INVALID_ARGUMENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once() {
    let pair = ready(20_000).await;
    let calls: Vec<_> = (0..500)
        .map(|_| {
            let plugin = pair.runtime.plugin.clone();
            tokio::spawn(async move { plugin.start_container(within(), &start("c")).await })
        })
        .collect();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!(pair.runtime.fatal(), None);
}
