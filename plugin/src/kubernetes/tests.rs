//! From a report to an API server and back to the counts.
//!
//! The server is a fake: a few lines of HTTP on a loopback address that keep what
//! they are asked and answer what the test says. It checks nothing that a real one
//! checks, has no TLS and asks for no credentials; the client is the real one.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{ACCEPT, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::Config;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

use super::*;

/// Never answers.
const HANGS: u16 = 0;
const PATIENT: Duration = Duration::from_mins(10);

/// As the journal has it.
pub(super) fn report(container: &str, rule: &str) -> Report {
    serde_json::from_value(json!({
        "time": "2026-01-31T23:59:00.123456789Z",
        "event": "exec",
        "verdict": "denied",
        "mechanism": "lsm",
        "rule": rule,
        "list": "deny",
        "origin": "profile:base",
        "matched": "/bin/whoami",
        "matched_by": "requested",
        "requested": "/bin/whoami",
        "resolved": "busybox",
        "argv0": "whoami",
        "pid": 4711,
        "container_pid": 9,
        "program": "sh",
        "parent_pid": 4700,
        "parent_program": "bash",
        "uid": 1000,
        "session": "exec",
        "session_pid": 4700,
        "container": container,
        "name": "app",
        "engine": "containerd",
        "pod": "web-0",
        "namespace": "shop",
        "cgroup": 77,
    }))
    .unwrap()
}

/// What the fake was asked.
#[derive(Debug, PartialEq)]
struct Asked {
    method: String,
    path: String,
    accept: String,
    body: Value,
}

/// What the fake answers to requests for a pod and for a new Event.
#[derive(Debug)]
struct Says {
    pod: AtomicU16,
    event: AtomicU16,
}

/// A fake API server, and the two halves that speak to it.
struct World {
    says: Arc<Says>,
    asked: UnboundedReceiver<Asked>,
    listener: Listener,
    poster: JoinHandle<()>,
    metrics: Arc<Metrics>,
    begin: Instant,
}

impl World {
    async fn new(pod: u16, event: u16, limit: Duration) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let says = Arc::new(Says {
            pod: pod.into(),
            event: event.into(),
        });
        let (sender, asked) = unbounded_channel();
        tokio::spawn(serve(socket, Arc::clone(&says), sender));
        let metrics = Arc::new(Metrics::default());
        let (listener, poster, queue) = parts(&metrics);
        let poster = poster.to(Config::new(url.parse().unwrap()), limit);
        Self {
            says,
            asked,
            listener,
            poster: tokio::spawn(poster.run(queue)),
            metrics,
            begin: Instant::now(),
        }
    }

    fn hear(&self, container: &str, rule: &str) {
        self.listener.hear_at(&report(container, rule), self.begin);
    }

    fn count(&self, result: Posting) -> u64 {
        self.metrics.posting(result).get()
    }

    /// Posted, dropped, failed.
    fn counts(&self) -> [u64; 3] {
        [Posting::Posted, Posting::Dropped, Posting::Failed].map(|result| self.count(result))
    }

    /// Waits until so many were posted or failed.
    async fn done(&self, number: u64) {
        let all = async {
            while self.count(Posting::Posted) + self.count(Posting::Failed) < number {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENT, all).await.unwrap();
    }

    /// The Events that it was asked to create until now.
    fn created(&mut self) -> Vec<Value> {
        let mut created = Vec::new();
        while let Ok(asked) = self.asked.try_recv() {
            if asked.method == "POST" {
                created.push(asked.body);
            }
        }
        created
    }
}

async fn serve(socket: TcpListener, says: Arc<Says>, sender: UnboundedSender<Asked>) {
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        let (says, sender) = (Arc::clone(&says), sender.clone());
        let service = service_fn(move |request| answer(request, Arc::clone(&says), sender.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    says: Arc<Says>,
    sender: UnboundedSender<Asked>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let accept = head.headers.get(ACCEPT);
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        accept: accept.map_or_else(String::new, |value| value.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let is_event = asked.method == "POST";
    let body = asked.body.clone();
    // Nobody may be left to hear of it.
    sender.send(asked).ok();
    let status = if is_event { &says.event } else { &says.pod };
    let status = status.load(Ordering::Relaxed);
    let said = match (is_event, status) {
        (_, HANGS) => std::future::pending().await,
        (true, 201) => body,
        (false, 200) => json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata",
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "a-uid"},
        }),
        (_, code) => json!({
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "message": "the fake says no",
            "reason": if code == 404 { "NotFound" } else { "Failure" },
            "code": code,
        }),
    };
    let mut response = Response::new(Full::from(said.to_string()));
    *response.status_mut() = status.try_into().unwrap();
    let json = "application/json".try_into().unwrap();
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

#[tokio::test]
async fn the_first_refusal_by_a_rule_in_a_container_is_posted_on_its_pod() {
    let mut world = World::new(200, 201, PATIENT).await;
    world.hear("c0ffee", "whoami");
    world.done(1).await;
    assert_eq!(world.counts(), [1, 0, 0]);
    let pod = world.asked.try_recv().unwrap();
    assert_eq!(
        (pod.method.as_str(), pod.path.as_str()),
        ("GET", "/api/v1/namespaces/shop/pods/web-0")
    );
    assert!(
        pod.accept.contains("as=PartialObjectMetadata;"),
        "{}",
        pod.accept
    );
    let event = world.asked.try_recv().unwrap();
    assert_eq!(
        (event.method.as_str(), event.path.as_str()),
        ("POST", "/api/v1/namespaces/shop/events")
    );
    let notice = Notice::of(&report("c0ffee", "whoami"), &world.listener.node).unwrap();
    let mut expected = serde_json::to_value(notice.event).unwrap();
    expected["involvedObject"]["uid"] = "a-uid".into();
    assert_eq!(event.body, expected);
}

#[tokio::test]
async fn the_second_is_not_and_another_rule_is() {
    let mut world = World::new(200, 201, PATIENT).await;
    world.hear("c0ffee", "whoami");
    world.hear("c0ffee", "whoami");
    world.done(1).await;
    world.hear("c0ffee", "whoami");
    world.hear("c0ffee", "id");
    world.hear("decaf", "whoami");
    world.done(3).await;
    assert_eq!(world.counts(), [3, 0, 0]);
    let created = world.created();
    let messages: Vec<&str> = created
        .iter()
        .map(|event| event["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages.len(), 3);
    for (message, rule) in messages.iter().zip(["whoami", "id", "whoami"]) {
        assert!(message.contains(&format!("rule {rule:?}")), "{message}");
    }
}

#[tokio::test]
async fn a_pod_is_asked_for_once_a_container() {
    let mut world = World::new(200, 201, PATIENT).await;
    for rule in ["a", "b", "c"] {
        world.hear("c0ffee", rule);
    }
    world.done(3).await;
    let mut methods = Vec::new();
    while let Ok(asked) = world.asked.try_recv() {
        methods.push(asked.method);
    }
    assert_eq!(methods, ["GET", "POST", "POST", "POST"]);
}

#[tokio::test]
async fn what_is_over_the_rate_is_dropped_and_counted() {
    let mut world = World::new(200, 201, PATIENT).await;
    for rule in 0..30 {
        world.hear("c0ffee", &rule.to_string());
    }
    assert_eq!(world.count(Posting::Dropped), 5);
    world.done(25).await;
    assert_eq!(world.counts(), [25, 5, 0]);
    assert_eq!(world.created().len(), 25);
    // What was dropped is posted when it happens again.
    let later = world.begin + Duration::from_secs(1);
    world.listener.hear_at(&report("c0ffee", "29"), later);
    world.done(26).await;
    assert_eq!(world.counts(), [26, 5, 0]);
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_nobody() {
    let mut world = World::new(HANGS, HANGS, PATIENT).await;
    world.hear("c0ffee", "first");
    assert_eq!(world.asked.recv().await.unwrap().method, "GET");
    // It hangs now, and would for as long as this test. All of these return.
    for second in 1..=100 {
        let report = report("c0ffee", &second.to_string());
        let later = world.begin + Duration::from_secs(second);
        world.listener.hear_at(&report, later);
    }
    assert_eq!(world.counts(), [0, 100 - QUEUE as u64, 0]);
    assert!(!world.poster.is_finished());
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_a_while() {
    let world = World::new(200, HANGS, Duration::from_millis(1)).await;
    world.hear("c0ffee", "whoami");
    world.done(1).await;
    world.hear("c0ffee", "id");
    world.done(2).await;
    assert_eq!(world.counts(), [0, 0, 2]);
}

#[tokio::test]
async fn a_refused_request_is_counted_and_made_again_at_the_next_refusal() {
    for (pod, event) in [(403, 201), (500, 201), (200, 403), (200, 500)] {
        let mut world = World::new(pod, event, PATIENT).await;
        world.hear("c0ffee", "whoami");
        world.done(1).await;
        assert_eq!(world.counts(), [0, 0, 1], "{pod} {event}");
        // Without knowing the pod, none is created.
        assert_eq!(world.created().len(), usize::from(pod == 200));
        world.says.pod.store(200, Ordering::Relaxed);
        world.says.event.store(201, Ordering::Relaxed);
        world.hear("c0ffee", "whoami");
        world.done(2).await;
        assert_eq!(world.counts(), [1, 0, 1], "{pod} {event}");
        assert_eq!(world.created().len(), 1, "{pod} {event}");
    }
}

#[tokio::test]
async fn of_a_pod_that_is_gone_the_uid_is_left_out() {
    let mut world = World::new(404, 201, PATIENT).await;
    world.hear("c0ffee", "whoami");
    world.done(1).await;
    assert_eq!(world.counts(), [1, 0, 0]);
    let created = world.created();
    assert_eq!(created[0]["involvedObject"].get("uid"), None);
}

#[tokio::test]
async fn no_server_at_all_is_counted_with_and_without_tls() {
    for url in ["http://127.0.0.1:1", "https://127.0.0.1:1"] {
        let metrics = Arc::new(Metrics::default());
        let (listener, poster, queue) = parts(&metrics);
        let poster = poster.to(Config::new(url.parse().unwrap()), PATIENT);
        listener.hear(&report("c0ffee", "whoami"));
        drop(listener);
        // It ends with the last one who could queue more.
        poster.run(queue).await;
        assert_eq!(metrics.posting(Posting::Failed).get(), 1, "{url}");
    }
}
