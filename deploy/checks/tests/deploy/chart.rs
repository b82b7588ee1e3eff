//! The chart gives what the kustomization does, and each of its options what it says.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    cluster::{DAEMON, containers, least_privilege},
    documents, helm, text, typed,
};

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Result<&'a Value> {
    let mut found = documents.iter().filter(|one| one["kind"] == kind);
    let first = found.next().with_context(|| format!("no {kind}"))?;
    ensure!(found.next().is_none(), "several of {kind}");
    Ok(first)
}

fn settings(documents: &[Value]) -> Result<toml::Table> {
    let map = of_kind(documents, "ConfigMap")?;
    let text = map["data"]["config.toml"].as_str().context("config.toml")?;
    toml::from_str(text).with_context(|| text.to_owned())
}

fn pod(documents: &[Value]) -> Result<&Value> {
    Ok(&of_kind(documents, "DaemonSet")?["spec"]["template"]["spec"])
}

#[test]
fn by_itself_it_is_the_base() -> Result<()> {
    let chart = helm::render(&json!({}))?;
    let kinds: Vec<_> = chart.iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["ConfigMap", "DaemonSet", "ServiceAccount"]);
    chart.iter().try_for_each(typed::check)?;
    let base = documents(&text("deploy/kustomize/base/daemonset.yaml")?)?;
    assert_eq!(pod(&chart)?, pod(&base)?);
    let strategy = |documents: &[Value]| -> Result<Value> {
        Ok(of_kind(documents, "DaemonSet")?["spec"]["updateStrategy"].clone())
    };
    assert_eq!(strategy(&chart)?, strategy(&base)?);
    let base: toml::Table = toml::from_str(&text("deploy/kustomize/base/config.toml")?)?;
    assert_eq!(settings(&chart)?, base);
    Ok(())
}

#[test]
fn with_everything_it_is_of_the_types_and_has_no_privilege_more() -> Result<()> {
    let chart = helm::render(&json!({
        "image": {"digest": "sha256:abc"},
        "imagePullSecrets": [{"name": "x"}],
        "hooks": {"enabled": true, "prefix": "/opt/execblock"},
        "kubernetesEvents": {"enabled": true},
        "metrics": {
            "enabled": true,
            "podMonitor": true,
            "prometheusRule": true,
            "labels": {"release": "prometheus"},
        },
        "profiles": {"quiet": "deny = [\"whoami\"]\ndrift = \"deny\"\n"},
        "config": "[[default]]\nname = \"x\"\ndeny = [\"nc\"]\n",
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
    }))?;
    chart.iter().try_for_each(typed::check)?;
    let pod = pod(&chart)?;
    least_privilege(pod, DAEMON)?;
    for container in containers(pod) {
        assert_eq!(container["image"], "ghcr.io/execblock/execblock@sha256:abc");
    }
    let settings = settings(&chart)?;
    assert_eq!(settings["kubernetes"]["events"].as_bool(), Some(true));
    assert_eq!(settings["metrics"]["listen"].as_str(), Some("0.0.0.0:9643"));
    let hook = settings["nri"]["hook"].as_str();
    assert_eq!(
        hook,
        Some("/opt/execblock/libexec/execblock/execblock-hook")
    );
    assert_eq!(settings["default"][0]["name"].as_str(), Some("x"));
    let profile = &of_kind(&chart, "ConfigMap")?["data"]["quiet.toml"];
    assert_eq!(profile, "deny = [\"whoami\"]\ndrift = \"deny\"\n");
    // Whoever is asked from elsewhere is not on the node's network.
    assert_eq!(pod["hostNetwork"], false);
    let daemon = &pod["containers"][0];
    assert!(daemon["livenessProbe"]["httpGet"]["host"].is_null());
    assert_eq!(daemon["ports"][0]["containerPort"], 9643);
    let rbac = documents(&text("deploy/kustomize/overlays/events/rbac.yaml")?)?;
    let rules = |documents: &[Value]| -> Result<Value> {
        Ok(of_kind(documents, "ClusterRole")?["rules"].clone())
    };
    assert_eq!(rules(&chart)?, rules(&rbac)?);
    let alerts = documents(&text("examples/prometheus/alerts.yaml")?)?;
    assert_eq!(of_kind(&chart, "PrometheusRule")?["spec"], alerts[0]);
    Ok(())
}

/// As `kubectl kustomize` gives them, but for the names of folders.
#[test]
fn hooks_are_those_of_the_overlay() -> Result<()> {
    let chart = helm::render(&json!({"hooks": {"enabled": true}}))?;
    let overlay = documents(&text("deploy/kustomize/overlays/hooks/daemonset.yaml")?)?;
    let install = |documents: &[Value]| -> Result<Value> {
        let mut all = containers(pod(documents)?);
        let found = all.find(|one| one["name"] == "install");
        let mut found = found.context("install")?.clone();
        let folders = found["volumeMounts"].as_array_mut().context("mounts")?;
        folders.retain(|mount| mount["name"] == "config");
        found["args"] = Value::Null;
        Ok(found)
    };
    assert_eq!(install(&chart)?, install(&overlay)?);
    let ours: toml::Table = toml::from_str(&text("deploy/kustomize/overlays/hooks/config.toml")?)?;
    assert_eq!(settings(&chart)?, ours);
    Ok(())
}

#[test]
fn a_change_of_the_settings_rolls_the_daemon() -> Result<()> {
    let sum = |values: &Value| -> Result<Value> {
        let chart = helm::render(values)?;
        let set = of_kind(&chart, "DaemonSet")?;
        Ok(set["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone())
    };
    let usual = sum(&json!({}))?;
    assert_eq!(usual, sum(&json!({}))?);
    assert_ne!(usual, sum(&json!({"logFormat": "text"}))?);
    assert_ne!(usual, sum(&json!({"profiles": {"a": "b"}}))?);
    Ok(())
}

#[test]
fn the_schema_takes_the_values_and_nothing_that_is_misspelt() -> Result<()> {
    let schema = serde_json::from_str(&text("deploy/helm/execblock/values.schema.json")?)?;
    let schema = jsonschema::validator_for(&schema)?;
    let values = documents(&text("deploy/helm/execblock/values.yaml")?)?.remove(0);
    assert!(schema.is_valid(&values));
    // Each value of the file has a type there.
    for key in values.as_object().context("values")?.keys() {
        let mut other = values.clone();
        other[key] = json!(7);
        assert!(!schema.is_valid(&other), "{key}");
    }
    for (pointer, key) in [("", "hook"), ("/metrics", "enable"), ("/image", "name")] {
        let mut other = values.clone();
        other.pointer_mut(pointer).context("a table")?[key] = json!(true);
        assert!(!schema.is_valid(&other), "{pointer} {key}");
    }
    Ok(())
}
