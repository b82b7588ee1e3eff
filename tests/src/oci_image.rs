//! Writes an image of one layer as a tarball, the same for the same input: there is no registry and
//! no engine. It is an OCI image layout, which `ctr` and Podman read, with the `manifest.json` that
//! `docker load` looks for. `cargo xtask image` writes execblock's own with this file.

use std::io::Write;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
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
    pub(crate) about: About<'a>,
}

/// What else an image says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) labels: &'a [(&'a str, &'a str)],
    /// RFC 3339.
    pub(crate) created: Option<&'a str>,
    /// The time of all files, in seconds of the Unix epoch.
    pub(crate) time: u64,
    /// Smaller, and slower to unpack.
    pub(crate) compressed: bool,
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
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the image; the same input gives the same bytes.
pub(crate) fn write(image: Image<'_>, to: impl Write) -> Result<()> {
    let plain = layer(image.entries, image.about.time)?;
    let config = serde_json::to_vec(&config(image, &digest(&plain)))?;
    let (kind, layer) = if image.about.compressed {
        (LAYER_GZIP, gzip(&plain)?)
    } else {
        (LAYER, plain)
    };
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor::of(CONFIG, &config),
        "layers": [Descriptor::of(kind, &layer)],
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

/// What is run, and as whom: root, unless whoever starts it says otherwise.
fn config(image: Image<'_>, layer: &str) -> serde_json::Value {
    let labels: serde_json::Map<String, serde_json::Value> = image
        .about
        .labels
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.into()))
        .collect();
    let mut config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "0:0",
            "Entrypoint": image.entrypoint,
            "Env": ["PATH=/usr/bin:/bin"],
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created_by": "execblock" }],
    });
    if let Some(created) = image.about.created {
        config["created"] = created.into();
    }
    config
}

fn gzip(plain: &[u8]) -> Result<Vec<u8>> {
    // Without a name and a time.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(plain)?;
    gzip.finish().context("compress the layer")
}

fn layer(entries: &[Entry<'_>], time: u64) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let header = |kind, mode, size| {
        let mut header = header(kind, mode, size);
        header.set_mtime(time);
        header
    };
    for entry in entries {
        match entry {
            Entry::Dir(path) => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                layer.append_data(&mut header, path.trim_start_matches('/'), &[][..])?;
            }
            Entry::Program { path, content } | Entry::File { path, content } => {
                let mode = if matches!(entry, Entry::File { .. }) {
                    0o644
                } else {
                    0o755
                };
                let mut header = header(EntryType::Regular, mode, u64::try_from(content.len())?);
                layer.append_data(&mut header, path.trim_start_matches('/'), *content)?;
            }
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
        about: About {
            labels: &[("org.opencontainers.image.title", "x")],
            created: None,
            time: 7,
            compressed: false,
        },
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
        assert_eq!(config["config"]["User"], "0:0");
        assert_eq!(
            config["config"]["Labels"]["org.opencontainers.image.title"],
            "x"
        );
        let docker: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(docker[0]["RepoTags"][0], "vmtest.local/x:1");
        assert_eq!(files[docker[0]["Layers"][0].as_str().unwrap()], layer);
        assert!(files.contains_key(docker[0]["Config"].as_str().unwrap()));
        let layer = unpack(&layer);
        assert_eq!(layer["bin/busybox"], b"program");
        assert_eq!(layer["bin/whoami"], b"busybox");
    }

    #[test]
    fn a_compressed_layer_has_the_digest_of_what_is_in_it() {
        let image = Image {
            about: About {
                compressed: true,
                ..IMAGE.about
            },
            ..IMAGE
        };
        let mut archive = Vec::new();
        write(image, &mut archive).unwrap();
        let files = unpack(&archive);
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifest = json(&files, &index["manifests"][0]);
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER_GZIP);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&json(&files, &manifest["layers"][0])[..])
            .read_to_end(&mut plain)
            .unwrap();
        let config = json(&files, &manifest["config"]);
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&plain));
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        for compressed in [false, true] {
            let mut image = IMAGE;
            image.about.compressed = compressed;
            let (mut one, mut two) = (Vec::new(), Vec::new());
            write(image, &mut one).unwrap();
            write(image, &mut two).unwrap();
            assert_eq!(one, two);
        }
    }

    #[test]
    fn files_are_roots_and_of_one_time() {
        let layer = layer(ENTRIES, 7).unwrap();
        for entry in tar::Archive::new(&layer[..]).entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 7);
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        }
    }
}
