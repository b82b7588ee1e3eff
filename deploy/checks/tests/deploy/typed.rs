//! Documents against the types of the API server: a field that it does not know is not kept by
//! them, and so is found.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::{DaemonSet, Deployment},
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Namespace, Pod, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Whose types are not Kubernetes' own.
const OTHERS: &[&str] = &[
    "kustomize.config.k8s.io/",
    "kyverno.io/",
    "monitoring.coreos.com/",
];

/// Fails where a field is not one of its type's, or has another type.
pub(crate) fn check(document: &Value) -> Result<()> {
    let (version, kind) = (text(document, "apiVersion")?, text(document, "kind")?);
    if OTHERS.iter().any(|group| version.starts_with(group)) {
        return Ok(());
    }
    match (version, kind) {
        ("v1", "ConfigMap") => as_type::<ConfigMap>(document),
        ("v1", "Namespace") => as_type::<Namespace>(document),
        ("v1", "Pod") => as_type::<Pod>(document),
        ("v1", "ServiceAccount") => as_type::<ServiceAccount>(document),
        ("apps/v1", "DaemonSet") => as_type::<DaemonSet>(document),
        ("apps/v1", "Deployment") => as_type::<Deployment>(document),
        ("batch/v1", "CronJob") => as_type::<CronJob>(document),
        ("batch/v1", "Job") => as_type::<Job>(document),
        ("networking.k8s.io/v1", "NetworkPolicy") => as_type::<NetworkPolicy>(document),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => as_type::<ClusterRole>(document),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            as_type::<ClusterRoleBinding>(document)
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => {
            as_type::<ValidatingAdmissionPolicy>(document)
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
            as_type::<ValidatingAdmissionPolicyBinding>(document)
        }
        _ => bail!("{version} {kind}: no type for it here"),
    }
}

fn text<'a>(document: &'a Value, key: &str) -> Result<&'a str> {
    document[key].as_str().with_context(|| format!("no {key}"))
}

fn as_type<T: DeserializeOwned + Serialize>(document: &Value) -> Result<()> {
    let typed: T = serde_json::from_value(document.clone())?;
    kept("", document, &serde_json::to_value(typed)?)
}

/// Whether all that was written is there after it was read. A required field that was left
/// out is there too, which makes a patch one.
fn kept(path: &str, written: &Value, read: &Value) -> Result<()> {
    match (written, read) {
        // Takes away what the base has.
        (Value::Null, _) => Ok(()),
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                let path = format!("{path}/{key}");
                let empty = value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(serde_json::Map::is_empty);
                match read.get(key) {
                    Some(read) => kept(&path, value, read)?,
                    None if value.is_null() || empty => {}
                    None => bail!("{path}: no such field"),
                }
            }
            Ok(())
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            let mut pairs = written.iter().zip(read).enumerate();
            pairs.try_for_each(|(at, (written, read))| kept(&format!("{path}/{at}"), written, read))
        }
        _ => {
            ensure!(written == read, "{path}: {written} was read as {read}");
            Ok(())
        }
    }
}

#[test]
fn a_field_that_no_type_has_is_found() -> Result<()> {
    let pod =
        |spec: Value| check(&serde_json::json!({"apiVersion": "v1", "kind": "Pod", "spec": spec}));
    pod(serde_json::json!({"hostPID": true, "containers": []}))?;
    let error = pod(serde_json::json!({"hostPid": true})).unwrap_err();
    assert_eq!(error.to_string(), "/spec/hostPid: no such field");
    assert!(pod(serde_json::json!({"hostPID": "yes"})).is_err());
    assert!(check(&serde_json::json!({"apiVersion": "v1", "kind": "Pot"})).is_err());
    Ok(())
}
