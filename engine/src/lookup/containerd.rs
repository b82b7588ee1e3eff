//! containerd's containers, over its socket, in all namespaces: Kubernetes'
//! (`k8s.io`), `ctr`'s (`default`), nerdctl's, and any other.

use std::{collections::HashMap, error::Error, path::Path, time::Duration};

use containerd_client::{
    Client,
    services::v1::{
        Container, ListContainersRequest, ListNamespacesRequest, ListTasksRequest,
        containers_client::ContainersClient, tasks_client::TasksClient,
    },
    tonic::{self, Request, transport::Channel},
    types::v1::{Process, Status},
};

use super::{Found, not_there};
use crate::oci;

/// containerd's own, Docker's and k3s'.
pub(super) const SOCKETS: [&str; 3] = [
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
];

/// For all of one containerd.
const LIMIT: Duration = Duration::from_secs(5);

/// More than the specifications of ten thousand containers.
const MESSAGE_MAX: usize = 256 << 20;

pub(super) fn list(socket: &Path) -> Result<Vec<Found>, String> {
    std::fs::metadata(socket).map_err(|error| not_there(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        match tokio::time::timeout(LIMIT, all(socket)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(chain(&*error)),
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        }
    })
}

async fn all(socket: &Path) -> Result<Vec<Found>, Box<dyn Error>> {
    let client = Client::from_path(socket).await?;
    let namespaces = client
        .namespaces()
        .list(ListNamespacesRequest::default())
        .await?
        .into_inner()
        .namespaces;
    let mut found = Vec::new();
    for namespace in namespaces {
        found.extend(of_namespace(client.channel(), &namespace.name).await?);
    }
    Ok(found)
}

async fn of_namespace(channel: Channel, namespace: &str) -> Result<Vec<Found>, Box<dyn Error>> {
    let mut tasks = TasksClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX);
    let tasks = tasks
        .list(request(ListTasksRequest::default(), namespace)?)
        .await?
        .into_inner()
        .tasks;
    let pids = pids(tasks);
    let mut containers = ContainersClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    // One after the other: a list of many would be longer than a message may be.
    let mut stream = containers
        .list_stream(request(ListContainersRequest::default(), namespace)?)
        .await?
        .into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await? {
        let container = message.container.unwrap_or_default();
        let pid = pids.get(&container.id).copied().unwrap_or(0);
        found.extend(of_container(&container, pid, namespace));
    }
    Ok(found)
}

/// Process ids by container. An ended task keeps its own until it is deleted; the
/// number may be another process's by then.
fn pids(tasks: Vec<Process>) -> HashMap<String, u32> {
    let alive = tasks
        .into_iter()
        .filter(|task| task.status() != Status::Stopped);
    alive.map(|task| (task.id, task.pid)).collect()
}

fn request<T>(message: T, namespace: &str) -> Result<Request<T>, Box<dyn Error>> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace.parse()?);
    Ok(request)
}

fn of_container(container: &Container, pid: u32, namespace: &str) -> Option<Found> {
    let spec = container.spec.as_ref().map(|spec| spec.value.as_slice());
    // A runtime of another kind has a specification of another kind.
    let config = spec.and_then(|spec| oci::Config::parse(spec, "config.json".as_ref()).ok());
    let mut config = config.unwrap_or_default();
    // Names are labels here, and annotations only for some.
    for (key, value) in &container.labels {
        if key.starts_with("io.kubernetes.") || key.starts_with("nerdctl/") {
            let annotations = &mut config.annotations;
            annotations
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
    }
    let state = oci::State {
        id: container.id.clone(),
        pid: pid.try_into().unwrap_or(0),
        ..oci::State::default()
    };
    let mut known = oci::Container::new(state, config);
    let kind = container.labels.get("io.cri-containerd.kind");
    if known.is_sandbox() || kind.is_some_and(|kind| kind == "sandbox") {
        return None;
    }
    if known.owner.image.is_empty() {
        container.image.clone_into(&mut known.owner.image);
    }
    if known.owner.engine == "oci" {
        let docker = namespace == "moby";
        if docker { "docker" } else { "containerd" }.clone_into(&mut known.owner.engine);
    }
    if known.owner.pod.is_empty() {
        // Two namespaces may have containers of the same id.
        namespace.clone_into(&mut known.owner.namespace);
    }
    Some(Found::new(known))
}

/// As [`of_container`], of what the fuzz targets have.
pub(super) fn of_parts(
    id: String,
    labels: impl Iterator<Item = (String, String)>,
    spec: &[u8],
    namespace: &str,
) -> Option<Found> {
    let mut container = Container {
        id,
        labels: labels.collect(),
        ..Container::default()
    };
    container.spec.get_or_insert_default().value = spec.to_vec();
    of_container(&container, 0, namespace)
}

/// The last cause says what it was: "transport error" does not.
fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        return format!("{}: {}", status.code(), status.message());
    }
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
#[path = "containerd_tests.rs"]
mod tests;
