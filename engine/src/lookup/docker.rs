//! Docker's containers, from `DATA-ROOT/containers/ID/config.v2.json`.
//!
//! Source: moby `daemon/container/container.go` (the JSON names of `Container`)
//! and `hostconfig.json` beside it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Found, names, read_json};
use crate::oci::{self, Annotations};

/// `data-root` of daemon.json.
pub(super) fn configured() -> PathBuf {
    let config = read_json("/etc/docker/daemon.json".as_ref());
    let root = config
        .as_ref()
        .and_then(|config| config["data-root"].as_str());
    root.unwrap_or("/var/lib/docker").into()
}

pub(super) fn list(root: &Path) -> Result<Vec<Found>, String> {
    let dir = root.join("containers");
    let ids = names(&dir)?.into_iter();
    // What can't be read is being made or removed.
    Ok(ids.filter_map(|id| container(&dir.join(id))).collect())
}

fn container(dir: &Path) -> Option<Found> {
    let config = read_json(&dir.join("config.v2.json"))?;
    let host = read_json(&dir.join("hostconfig.json")).unwrap_or_default();
    let state = &config["State"];
    let pid = state["Pid"].as_i64().and_then(|pid| pid.try_into().ok());
    let runs = state["Running"] == true;
    let mut annotations = texts(&host["Annotations"]);
    // cri-dockerd's names of pods are labels.
    let labels = texts(&config["Config"]["Labels"]).into_iter();
    annotations.extend(labels.filter(|(key, _)| key.starts_with("io.kubernetes.")));
    let mut container = oci::Container::new(
        oci::State {
            id: config["ID"].as_str()?.to_owned(),
            pid: pid.filter(|_| runs).unwrap_or(0),
            ..oci::State::default()
        },
        oci::Config {
            annotations,
            cgroups_path: None,
            root: None,
        },
    );
    if container.owner.name.is_empty() {
        let name = config["Name"].as_str().unwrap_or_default();
        name.trim_start_matches('/')
            .clone_into(&mut container.owner.name);
    }
    let image = config["Config"]["Image"].as_str();
    image
        .unwrap_or_default()
        .clone_into(&mut container.owner.image);
    "docker".clone_into(&mut container.owner.engine);
    Some(Found::new(container))
}

fn texts(object: &Value) -> Annotations {
    let pairs = object.as_object().into_iter().flatten();
    pairs
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
