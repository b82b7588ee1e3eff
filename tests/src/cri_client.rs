//! A client of the container runtime interface: the part of `runtime.v1` that a kubelet uses to
//! start a pod. Field numbers are those of Kubernetes' api.proto.

pub(crate) mod container;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;

use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use self::container::{
    ContainerConfig, ContainerMetadata, ContainerSecurity, ImageSpec, LinuxContainer,
};

/// One container start takes up to five seconds where everything is emulated.
const REQUEST_LIMIT: Duration = Duration::from_mins(3);

/// `NamespaceMode::NODE`: the namespace of the machine.
const NODE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct VersionRequest {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VersionResponse {
    #[prost(string, tag = "2")]
    pub(crate) runtime_name: String,
    #[prost(string, tag = "3")]
    pub(crate) runtime_version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<PodMetadata>,
    #[prost(string, tag = "3")]
    pub(crate) log_directory: String,
    #[prost(map = "string, string", tag = "7")]
    pub(crate) annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<LinuxPod>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxPod {
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) security_context: Option<PodSecurity>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
    #[prost(bool, tag = "6")]
    privileged: bool,
}

impl PodSecurity {
    pub(crate) fn on_host_network(privileged: bool) -> Self {
        Self {
            namespaces: Some(Namespaces::machines(true, false)),
            privileged,
        }
    }

    /// Of a pod that is not privileged.
    pub(crate) fn in_namespaces(namespaces: Namespaces) -> Self {
        Self {
            namespaces: Some(namespaces),
            privileged: false,
        }
    }
}

/// The rest is 0, `POD`: the ipc namespace of the pod.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

impl Namespaces {
    /// Which are the machine's and not the pod's.
    pub(crate) fn machines(network: bool, pid: bool) -> Self {
        let mode = |is_machines| if is_machines { NODE } else { 0 };
        Self {
            network: mode(network),
            pid: mode(pid),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct RunPodRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
    #[prost(string, tag = "2")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Pods {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodId>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(enumeration = "State", tag = "3")]
    state: i32,
    #[prost(int32, tag = "7")]
    pub(crate) exit_code: i32,
    #[prost(string, tag = "10")]
    pub(crate) reason: String,
    #[prost(string, tag = "11")]
    pub(crate) message: String,
}

impl Status {
    pub(crate) fn is_over(&self) -> bool {
        self.state() == State::Exited
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum State {
    Created = 0,
    Running = 1,
    Exited = 2,
    Unknown = 3,
}

#[derive(Clone, PartialEq, Message)]
struct ExecRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecResponse {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
}

impl ExecResponse {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout(), String::from_utf8_lossy(&self.stderr))
    }
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageFound>,
}

/// `Image` has many fields; here it only matters whether there is one.
#[derive(Clone, PartialEq, Message)]
struct ImageFound {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// What a container is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) annotations: HashMap<String, String>,
    pub(crate) privileged: bool,
}

/// A connection to containerd's socket, used from ordinary code.
#[derive(Debug)]
pub(crate) struct CriClient {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl CriClient {
    /// Fails at once while nobody listens on the socket.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let endpoint =
            Endpoint::from_shared(format!("unix://{}", socket.display()))?.timeout(REQUEST_LIMIT);
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| socket.display().to_string())?;
        Ok(Self { runtime, channel })
    }

    pub(crate) fn version(&self) -> Result<VersionResponse> {
        self.call("/runtime.v1.RuntimeService/Version", VersionRequest {})
    }

    pub(crate) fn has_image(&self, name: &str) -> Result<bool> {
        let image = Some(ImageSpec {
            image: name.to_owned(),
        });
        let reply: ImageStatusResponse = self.call(
            "/runtime.v1.ImageService/ImageStatus",
            ImageStatusRequest { image },
        )?;
        Ok(reply.image.is_some_and(|image| !image.id.is_empty()))
    }

    pub(crate) fn run_pod(&self, config: &PodConfig, runtime_handler: &str) -> Result<String> {
        let request = RunPodRequest {
            config: Some(config.clone()),
            runtime_handler: runtime_handler.to_owned(),
        };
        let reply: PodId = self.call("/runtime.v1.RuntimeService/RunPodSandbox", request)?;
        Ok(reply.id)
    }

    pub(crate) fn pods(&self) -> Result<Vec<String>> {
        let reply: Pods = self.call("/runtime.v1.RuntimeService/ListPodSandbox", Nothing {})?;
        Ok(reply.items.into_iter().map(|pod| pod.id).collect())
    }

    /// Stops the pod and removes it with its containers.
    pub(crate) fn remove_pod(&self, pod: &str) -> Result<()> {
        let id = PodId { id: pod.to_owned() };
        let _: Nothing = self.call("/runtime.v1.RuntimeService/StopPodSandbox", id.clone())?;
        let _: Nothing = self.call("/runtime.v1.RuntimeService/RemovePodSandbox", id)?;
        Ok(())
    }

    pub(crate) fn create(
        &self,
        pod: &str,
        pod_config: &PodConfig,
        spec: ContainerSpec,
    ) -> Result<String> {
        let security = ContainerSecurity {
            privileged: spec.privileged,
            namespaces: Some(Namespaces::machines(true, false)),
            ..ContainerSecurity::default()
        };
        let config = ContainerConfig {
            log_path: format!("{}.log", spec.name),
            metadata: Some(ContainerMetadata { name: spec.name }),
            image: Some(ImageSpec { image: spec.image }),
            command: spec.command,
            annotations: spec.annotations,
            linux: Some(LinuxContainer {
                security_context: Some(security),
                ..LinuxContainer::default()
            }),
            ..ContainerConfig::default()
        };
        self.create_of(pod, pod_config, config)
    }

    pub(crate) fn create_of(
        &self,
        pod: &str,
        pod_config: &PodConfig,
        config: ContainerConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod: pod.to_owned(),
            config: Some(config),
            pod_config: Some(pod_config.clone()),
        };
        let reply: ContainerId =
            self.call("/runtime.v1.RuntimeService/CreateContainer", request)?;
        Ok(reply.id)
    }

    pub(crate) fn start(&self, container: &str) -> Result<()> {
        let id = ContainerId {
            id: container.to_owned(),
        };
        let _: Nothing = self.call("/runtime.v1.RuntimeService/StartContainer", id)?;
        Ok(())
    }

    /// `StopContainer` without a time of grace, then `RemoveContainer`.
    pub(crate) fn remove(&self, container: &str) -> Result<()> {
        let id = ContainerId {
            id: container.to_owned(),
        };
        let _: Nothing = self.call("/runtime.v1.RuntimeService/StopContainer", id.clone())?;
        let _: Nothing = self.call("/runtime.v1.RuntimeService/RemoveContainer", id)?;
        Ok(())
    }

    pub(crate) fn status(&self, container: &str) -> Result<Status> {
        self.status_and_info(container, false)?
            .status
            .context("a reply without a status")
    }

    /// The process id of the container's first process.
    pub(crate) fn pid(&self, container: &str) -> Result<i32> {
        let reply = self.status_and_info(container, true)?;
        let info = reply.info.get("info").context("no verbose information")?;
        let info: serde_json::Value = serde_json::from_str(info)?;
        let pid = info["pid"]
            .as_i64()
            .filter(|pid| *pid > 0)
            .context("no pid")?;
        Ok(pid.try_into()?)
    }

    fn status_and_info(&self, container: &str, verbose: bool) -> Result<ContainerStatusResponse> {
        let request = ContainerStatusRequest {
            id: container.to_owned(),
            verbose,
        };
        self.call("/runtime.v1.RuntimeService/ContainerStatus", request)
    }

    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Result<ExecResponse> {
        let request = ExecRequest {
            id: container.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 30,
        };
        self.call("/runtime.v1.RuntimeService/ExecSync", request)
    }

    fn call<Q, R>(&self, path: &'static str, request: Q) -> Result<R>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.context("connection to the runtime")?;
            let codec = ProstCodec::<Q, R>::default();
            let reply = client
                .unary(
                    tonic::Request::new(request),
                    PathAndQuery::from_static(path),
                    codec,
                )
                .await
                .map_err(|status| {
                    anyhow::anyhow!("{path}: {:?}: {}", status.code(), status.message())
                })?;
            Ok(reply.into_inner())
        })
    }
}
