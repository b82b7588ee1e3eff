//! Writes the tiny image of the tests as a tarball: there is no registry. It is an OCI image layout,
//! which `ctr` and Podman read, with the `manifest.json` that `docker load` looks for.

use std::io::Write;

use anyhow::{Context as _, Result};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// A file or link of the image's only layer.
#[derive(Debug, Clone)]
pub(crate) enum Entry<'a> {
    Dir(&'a str),
    Program { path: &'a str, content: &'a [u8] },
    File { path: &'a str, content: &'a [u8] },
    Symlink { path: &'a str, target: &'a str },
}

/// What the image is called and runs when nothing else is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image<'a> {
    pub(crate) name: &'a str,
    pub(crate) entrypoint: &'a [&'a str],
    pub(crate) entries: &'a [Entry<'a>],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<serde_json::Value>,
}

impl Descriptor {
    fn of(media_type: &'static str, content: &[u8]) -> Self {
        Self {
            media_type,
            digest: digest(content),
            size: content.len(),
            annotations: None,
        }
    }
}

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the image; the same input gives the same bytes.
pub(crate) fn write(image: Image<'_>, to: impl Write) -> Result<()> {
    let layer = layer(image.entries)?;
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint,
            "Env": ["PATH=/usr/bin:/bin"],
        },
        // The layer is not compressed, so both digests of it are one.
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [{ "created_by": "execblock-vmtest" }],
    }))?;
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor::of(CONFIG, &config),
        "layers": [Descriptor::of(LAYER, &layer)],
    }))?;
    let annotations = serde_json::json!({
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name,
    });
    let index = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [Descriptor {
            annotations: Some(annotations),
            ..Descriptor::of(MANIFEST, &manifest)
        }],
    }))?;

    let docker = serde_json::to_vec(&serde_json::json!([{
        "Config": blob_path(&config),
        "RepoTags": [image.name],
        "Layers": [blob_path(&layer)],
    }]))?;

    let mut archive = Builder::new(to);
    append(
        &mut archive,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    append(&mut archive, "index.json", 0o644, &index)?;
    append(&mut archive, "manifest.json", 0o644, &docker)?;
    for blob in [&config, &manifest, &layer] {
        append(&mut archive, &blob_path(blob), 0o644, blob)?;
    }
    archive.finish().context("image archive")
}

fn layer(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for entry in entries {
        match entry {
            Entry::Dir(path) => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                layer.append_data(&mut header, path.trim_start_matches('/'), &[][..])?;
            }
            Entry::Program { path, content } => append(&mut layer, path, 0o755, content)?,
            Entry::File { path, content } => append(&mut layer, path, 0o644, content)?,
            Entry::Symlink { path, target } => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                layer.append_link(&mut header, path.trim_start_matches('/'), target)?;
            }
        }
    }
    layer.into_inner().context("layer")
}

fn append(archive: &mut Builder<impl Write>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, u64::try_from(content.len())?);
    archive
        .append_data(&mut header, path.trim_start_matches('/'), content)
        .with_context(|| path.to_owned())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

fn blob_path(content: &[u8]) -> String {
    format!("blobs/{}", digest(content).replace(':', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read as _;

    const ENTRIES: &[Entry<'static>] = &[
        Entry::Dir("/bin"),
        Entry::Program {
            path: "/bin/busybox",
            content: b"program",
        },
        Entry::Symlink {
            path: "/bin/whoami",
            target: "busybox",
        },
    ];
    const IMAGE: Image<'static> = Image {
        name: "vmtest.local/x:1",
        entrypoint: &["/bin/sh"],
        entries: ENTRIES,
    };

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(target) = entry.link_name().unwrap() {
                content = target.display().to_string().into_bytes();
            }
            files.insert(path, content);
        }
        files
    }

    fn json(files: &BTreeMap<String, Vec<u8>>, descriptor: &serde_json::Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        let blob = &files[&format!("blobs/{digest}")];
        assert_eq!(descriptor["size"], blob.len());
        blob.clone()
    }

    #[test]
    fn every_descriptor_leads_to_its_blob() {
        let mut archive = Vec::new();
        write(IMAGE, &mut archive).unwrap();
        let files = unpack(&archive);
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(
            entry["annotations"]["io.containerd.image.name"],
            "vmtest.local/x:1"
        );
        let manifest: serde_json::Value = serde_json::from_slice(&json(&files, entry)).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&json(&files, &manifest["config"])).unwrap();
        let layer = json(&files, &manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        let docker: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(docker[0]["RepoTags"][0], "vmtest.local/x:1");
        assert_eq!(files[docker[0]["Layers"][0].as_str().unwrap()], layer);
        assert!(files.contains_key(docker[0]["Config"].as_str().unwrap()));
        let layer = unpack(&layer);
        assert_eq!(layer["bin/busybox"], b"program");
        assert_eq!(layer["bin/whoami"], b"busybox");
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        write(IMAGE, &mut one).unwrap();
        write(IMAGE, &mut two).unwrap();
        assert_eq!(one, two);
    }
}
