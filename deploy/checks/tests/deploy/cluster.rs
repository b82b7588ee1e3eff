//! The manifests: fields, and what the API server checks beside them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{documents, files, root, text, typed};

#[test]
fn every_document_is_of_its_type() -> Result<()> {
    let mut count = 0;
    for folder in ["deploy/kustomize", "deploy/policies", "examples/pods"] {
        for file in files(folder)? {
            for document in documents(&text(&file)?).with_context(|| file.clone())? {
                typed::check(&document).with_context(|| file.clone())?;
                count += 1;
            }
        }
    }
    ensure!(count > 20, "only {count} documents were found");
    Ok(())
}

/// What a kustomization names is there, and a base is one.
#[test]
fn what_a_kustomization_names_is_there() -> Result<()> {
    let all = files("deploy/kustomize")?;
    let kustomizations = all
        .iter()
        .filter(|file| file.ends_with("kustomization.yaml"));
    for file in kustomizations {
        let [document] = &documents(&text(file)?)?[..] else {
            anyhow::bail!("{file}: several documents");
        };
        let folder = root().join(file);
        let folder = folder.parent().context("a folder")?;
        let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut names = items(&document["resources"]);
        names.extend(
            items(&document["patches"])
                .iter()
                .map(|one| one["path"].clone()),
        );
        for generator in items(&document["configMapGenerator"]) {
            names.extend(items(&generator["files"]));
        }
        ensure!(!names.is_empty(), "{file}: names nothing");
        for name in names {
            let name = name.as_str().context("a name")?;
            ensure!(folder.join(name).exists(), "{file}: no {name}");
        }
    }
    Ok(())
}

pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |key: &str| pod[key].as_array().into_iter().flatten();
    of("initContainers").chain(of("containers"))
}

/// Of a pod: no more than is said, and what the API server refuses although the fields are right.
pub(crate) fn least_privilege(pod: &Value, allowed: &[(&str, &[&str])]) -> Result<()> {
    for container in containers(pod) {
        let name = container["name"].as_str().context("a name")?;
        let security = &container["securityContext"];
        ensure!(security["privileged"] == false, "{name} is privileged");
        ensure!(
            security["readOnlyRootFilesystem"] == true,
            "{name}: its root"
        );
        ensure!(
            security["allowPrivilegeEscalation"] == false,
            "{name} may escalate"
        );
        ensure!(
            security["seccompProfile"]["type"] == "RuntimeDefault",
            "{name}: seccomp"
        );
        let capabilities = &security["capabilities"];
        ensure!(
            capabilities["drop"] == serde_json::json!(["ALL"]),
            "{name} drops {}",
            capabilities["drop"]
        );
        let (_, allowed) = allowed
            .iter()
            .find(|(one, _)| *one == name)
            .with_context(|| format!("{name} is not expected"))?;
        let added = capabilities["add"].as_array().cloned().unwrap_or_default();
        ensure!(
            added == *allowed,
            "{name} has {added:?}, expected {allowed:?}"
        );
        // ValidateSecurityContext of the API server: not with allowPrivilegeEscalation: false.
        ensure!(!added.iter().any(|one| one == "CAP_SYS_ADMIN"), "{name}");
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let volumes = pod["volumes"].as_array().context("volumes")?;
            ensure!(
                volumes.iter().any(|volume| volume["name"] == mount["name"]),
                "{name} mounts {}, which is no volume",
                mount["name"]
            );
            ensure!(
                mount["mountPropagation"] != "Bidirectional",
                "the API server wants privileged for that"
            );
        }
    }
    Ok(())
}

pub(crate) const DAEMON: &[(&str, &[&str])] = &[
    ("install", &[]),
    ("load", &["BPF", "PERFMON", "SYS_ADMIN", "DAC_OVERRIDE"]),
    ("nri", &["BPF", "SYS_PTRACE", "DAC_READ_SEARCH"]),
];

#[test]
fn containers_have_the_privileges_that_are_explained_and_no_others() -> Result<()> {
    let of = |path: &str| -> Result<Value> {
        let documents = documents(&text(path)?)?;
        Ok(documents[0]["spec"]["template"]["spec"].clone())
    };
    least_privilege(&of("deploy/kustomize/base/daemonset.yaml")?, DAEMON)?;
    let unload: &[(&str, &[&str])] = &[("unload", &["BPF"]), ("done", &[])];
    least_privilege(&of("deploy/kustomize/unload/daemonset.yaml")?, unload)
}

/// As the units of systemd have them: one list is right, or neither.
#[test]
fn capabilities_are_those_of_the_units() -> Result<()> {
    for (name, unit) in [("load", "execblock-load"), ("nri", "execblock")] {
        let unit = text(&format!("examples/systemd/{unit}.service"))?;
        let set = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let set = set.context("CapabilityBoundingSet")?;
        let mut unit: Vec<_> = set
            .split(' ')
            .map(|one| one.trim_start_matches("CAP_"))
            .collect();
        let (_, manifest) = DAEMON
            .iter()
            .find(|(one, _)| *one == name)
            .context("a container")?;
        let mut manifest = manifest.to_vec();
        unit.sort_unstable();
        manifest.sort_unstable();
        ensure!(unit == manifest, "{name}: {manifest:?}, {unit:?}");
    }
    Ok(())
}

/// The daemon reads its settings once: what it would not start with is found here.
#[test]
fn settings_are_toml_and_alerts_are_the_examples() -> Result<()> {
    for overlay in [
        "base",
        "overlays/defaults",
        "overlays/events",
        "overlays/hooks",
    ] {
        let path = format!("deploy/kustomize/{overlay}/config.toml");
        let settings: toml::Table = toml::from_str(&text(&path)?).context(path)?;
        ensure!(
            settings["metrics"]["listen"].as_str() == Some("127.0.0.1:9643"),
            "{overlay}: the kubelet asks there"
        );
    }
    let profile = text("deploy/kustomize/overlays/defaults/web-server.toml")?;
    assert_eq!(profile, text("examples/profiles/web-server.toml")?);
    let alerts = text("examples/prometheus/alerts.yaml")?;
    assert_eq!(alerts, text("deploy/helm/execblock/files/alerts.yaml")?);
    let rule = documents(&text(
        "deploy/kustomize/overlays/metrics/prometheusrule.yaml",
    )?)?;
    assert_eq!(rule[0]["spec"], documents(&alerts)?[0]);
    Ok(())
}
