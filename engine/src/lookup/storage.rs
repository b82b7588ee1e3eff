//! Podman's and CRI-O's containers, from the directories that they share:
//!
//! ```text
//! GRAPHROOT/DRIVER-containers/containers.json, volatile-containers.json
//! RUNROOT/DRIVER-containers/volatile-containers.json    with transient_store
//! RUNROOT/DRIVER-containers/ID/userdata/pidfile
//! RUNROOT or GRAPHROOT/DRIVER-containers/ID/userdata/config.json
//! ```
//! Sources: containers/storage `containers.go`; libpod `container.go`
//! (`bundlePath`) and `oci_conmon_common.go`; CRI-O `internal/oci/container.go`.
//! Rootless Podman keeps its own in its user's home, which is not looked at.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Found, names, read};
use crate::oci;

/// `graphroot` and `runroot` of storage.conf.
pub(super) fn configured() -> (PathBuf, PathBuf) {
    #[derive(Default, Deserialize)]
    struct File {
        #[serde(default)]
        storage: Storage,
    }
    #[derive(Default, Deserialize)]
    struct Storage {
        graphroot: Option<PathBuf>,
        runroot: Option<PathBuf>,
    }
    // The first that is there counts (containers-storage.conf(5)).
    let files = [
        "/etc/containers/storage.conf",
        "/usr/share/containers/storage.conf",
    ];
    let text = files.iter().find_map(|file| read(file.as_ref()));
    let text = text.and_then(|text| String::from_utf8(text).ok());
    let file: File = text
        .and_then(|text| toml::from_str(&text).ok())
        .unwrap_or_default();
    let or = |path: Option<PathBuf>, usual: &str| path.unwrap_or_else(|| usual.into());
    (
        or(file.storage.graphroot, "/var/lib/containers/storage"),
        or(file.storage.runroot, "/run/containers/storage"),
    )
}

/// An entry of containers.json.
#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    /// JSON of the engine's own.
    #[serde(default)]
    metadata: String,
}

pub(super) fn list(graph: &Path, run: &Path) -> Result<Vec<Found>, String> {
    let drivers = names(graph)?.into_iter();
    let mut found = Vec::new();
    for driver in drivers.filter(|name| name.ends_with("-containers")) {
        let volatile = "volatile-containers.json";
        for (root, file) in [
            (graph, "containers.json"),
            (graph, volatile),
            (run, volatile),
        ] {
            let text = read(&root.join(&driver).join(file)).unwrap_or_default();
            // One that is being written is read the next time.
            let entries: Vec<Entry> = serde_json::from_slice(&text).unwrap_or_default();
            let entries = entries.into_iter();
            found.extend(entries.filter_map(|entry| {
                let below = |root: &Path| root.join(&driver).join(&entry.id).join("userdata");
                container(&entry, &below(graph), &below(run))
            }));
        }
    }
    Ok(found)
}

fn container(entry: &Entry, graph: &Path, run: &Path) -> Option<Found> {
    let pid = read(&run.join("pidfile")).unwrap_or_default();
    let pid = String::from_utf8_lossy(&pid).trim().parse().unwrap_or(0);
    let config = oci::Config::of_bundle(run).or_else(|_| oci::Config::of_bundle(graph));
    let mut container = oci::Container::new(
        oci::State {
            id: entry.id.clone(),
            pid,
            ..oci::State::default()
        },
        // One that was never started has none yet.
        config.unwrap_or_default(),
    );
    if container.is_sandbox() {
        return None;
    }
    if container.owner.name.is_empty() {
        container.owner.name = entry.names.first().cloned().unwrap_or_default();
    }
    if container.owner.image.is_empty() {
        // Podman's and CRI-O's metadata (containers/storage) have it alike.
        let metadata: Value = serde_json::from_str(&entry.metadata).unwrap_or_default();
        let image = metadata["image-name"].as_str().unwrap_or_default();
        image.clone_into(&mut container.owner.image);
    }
    if container.owner.engine == "oci" {
        // CRI-O's metadata name a pod, Podman's don't.
        let cri_o = entry.metadata.contains("\"pod-name\"");
        if cri_o { "cri-o" } else { "podman" }.clone_into(&mut container.owner.engine);
    }
    Some(Found::new(container))
}
