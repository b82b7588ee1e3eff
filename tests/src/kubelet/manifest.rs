//! The DaemonSet as text has it. What the kubelet itself does not look at is read and left.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DaemonSet {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    pub(super) spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(rename = "selector")]
    _selector: IgnoredAny,
    #[serde(rename = "updateStrategy")]
    _update_strategy: IgnoredAny,
    pub(super) template: Template,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    pub(super) metadata: Metadata,
    pub(super) spec: PodSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    #[serde(rename = "labels")]
    _labels: IgnoredAny,
    pub(super) annotations: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodSpec {
    #[serde(rename = "priorityClassName")]
    _priority_class_name: IgnoredAny,
    #[serde(rename = "serviceAccountName")]
    _service_account_name: IgnoredAny,
    /// There is no API server here.
    #[serde(rename = "automountServiceAccountToken")]
    _automount_service_account_token: IgnoredAny,
    #[serde(rename = "hostPID")]
    pub(super) host_pid: bool,
    pub(super) host_network: bool,
    #[serde(rename = "nodeSelector")]
    _node_selector: IgnoredAny,
    #[serde(rename = "tolerations")]
    _tolerations: IgnoredAny,
    #[serde(rename = "terminationGracePeriodSeconds")]
    _termination_grace_period_seconds: IgnoredAny,
    pub(super) init_containers: Vec<Container>,
    pub(super) containers: Vec<Container>,
    pub(super) volumes: Vec<Volume>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    /// The image is there.
    #[serde(rename = "imagePullPolicy")]
    _image_pull_policy: IgnoredAny,
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<Variable>,
    pub(super) security_context: SecurityContext,
    #[serde(default, rename = "startupProbe")]
    _startup_probe: Option<IgnoredAny>,
    pub(super) liveness_probe: Option<Probe>,
    #[serde(default, rename = "readinessProbe")]
    _readiness_probe: Option<IgnoredAny>,
    pub(super) resources: Resources,
    pub(super) volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value_from: ValueFrom,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ValueFrom {
    pub(super) field_ref: FieldRef,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FieldRef {
    pub(super) field_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SecurityContext {
    pub(super) run_as_user: i64,
    pub(super) run_as_group: i64,
    pub(super) privileged: bool,
    pub(super) read_only_root_filesystem: bool,
    pub(super) allow_privilege_escalation: bool,
    pub(super) capabilities: Capabilities,
    pub(super) seccomp_profile: Profile,
    pub(super) app_armor_profile: Profile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capabilities {
    pub(super) drop: Vec<String>,
    pub(super) add: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Profile {
    RuntimeDefault,
    Unconfined,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Probe {
    pub(super) http_get: HttpGet,
    #[serde(rename = "periodSeconds")]
    _period_seconds: IgnoredAny,
    #[serde(rename = "timeoutSeconds")]
    _timeout_seconds: IgnoredAny,
}

/// A page that answers where a container lives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpGet {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resources {
    #[serde(rename = "requests")]
    _requests: IgnoredAny,
    #[serde(default)]
    pub(super) limits: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VolumeMount {
    pub(super) name: String,
    pub(super) mount_path: String,
    pub(super) sub_path: Option<String>,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) host_path: Option<HostPath>,
    pub(super) config_map: Option<ConfigMap>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostPath {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConfigMap {
    pub(super) name: String,
    pub(super) default_mode: u32,
}
