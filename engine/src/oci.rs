//! What OCI runtimes and bundles say of a container: who it is, its annotations,
//! its first process, the cgroup that it was given.
//!
//! Reading is as tolerant as it can be: only fields that are used are looked at,
//! and later versions of the specification add others. Sources: runtime.md
//! ("State") and config.md ("Annotations", "`linux.cgroupsPath`") of
//! opencontainers/runtime-spec.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    annotation::{PREFIX, Spec},
    node::{Node, SpecError},
    record::Owner,
    scope,
};

/// Most bytes that are read of a state or a configuration.
pub const SIZE_MAX: u64 = 16 << 20;

/// What a state or a configuration is not.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Not the JSON of a state.
    #[error(
        "the container's state is not understood: {0}; expected a JSON object with id, status, \
         pid and bundle, as an OCI runtime gives it to its hooks"
    )]
    State(String),
    /// Not the JSON of a configuration.
    #[error("{path}: {source}; expected the configuration of an OCI bundle")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// An annotation of ours that is not text.
    #[error("annotation {0}: expected a string")]
    NotText(String),
    /// Longer than [`SIZE_MAX`].
    #[error("{0} has more than {SIZE_MAX} bytes")]
    TooLong(String),
    /// A file or stream.
    #[error("read {what}: {source}")]
    Io {
        /// What was read.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Annotations by key.
pub type Annotations = BTreeMap<String, String>;

/// An OCI runtime's state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The engine's id of the container.
    pub id: String,
    /// `creating`, `created`, `running`, `stopped`, or one of the runtime's own.
    pub status: String,
    /// First process as the runtime sees it; 0 where there is none.
    pub pid: i32,
    /// The directory of its configuration.
    pub bundle: Option<PathBuf>,
    /// Its annotations; `None` where the state has none at all, which is also
    /// what some runtimes write where there are some.
    pub annotations: Option<Annotations>,
}

impl State {
    /// Reads the JSON of a state.
    ///
    /// # Errors
    ///
    /// Where it is not an object, has no id, or an annotation of ours makes no
    /// sense.
    pub fn parse(text: &[u8]) -> Result<Self, OciError> {
        let wrong = |problem: &str| OciError::State(problem.to_owned());
        let state: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| wrong(&error.to_string()))?;
        let text = |key| state.get(key).and_then(Value::as_str);
        let annotations = match state.get("annotations") {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(of_text(map)?),
            Some(_) => return Err(wrong("annotations are no object")),
        };
        let pid = state.get("pid").and_then(Value::as_i64);
        Ok(Self {
            id: text("id").unwrap_or_default().to_owned(),
            status: text("status").unwrap_or_default().to_owned(),
            pid: pid.and_then(|pid| pid.try_into().ok()).unwrap_or(0),
            bundle: text("bundle").map(PathBuf::from),
            annotations,
        })
    }
}

/// What a bundle's `config.json` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Its annotations.
    pub annotations: Annotations,
    /// `linux.cgroupsPath`, as it is written.
    pub cgroups_path: Option<String>,
    /// `root.path`, as it is written: absolute, or within the bundle.
    pub root: Option<PathBuf>,
}

#[derive(Deserialize)]
struct RawConfig {
    annotations: Option<Map<String, Value>>,
    root: Option<RawRoot>,
    linux: Option<RawLinux>,
}

#[derive(Deserialize)]
struct RawRoot {
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct RawLinux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: Option<String>,
}

impl Config {
    /// Reads `config.json` of a bundle.
    ///
    /// # Errors
    ///
    /// Where it can't be read or understood.
    pub fn of_bundle(bundle: &Path) -> Result<Self, OciError> {
        let path = bundle.join("config.json");
        let what = path.display().to_string();
        let file = File::open(&path).map_err(|source| OciError::Io {
            what: what.clone(),
            source,
        })?;
        Self::parse(&read_bounded(file, &what)?, &path)
    }

    /// Reads the JSON of a configuration; `path` is for messages.
    ///
    /// # Errors
    ///
    /// Where it is not understood.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, OciError> {
        let raw: RawConfig = serde_json::from_slice(text).map_err(|source| OciError::Config {
            path: path.to_owned(),
            source,
        })?;
        let cgroups_path = raw.linux.and_then(|linux| linux.cgroups_path);
        Ok(Self {
            annotations: of_text(&raw.annotations.unwrap_or_default())?,
            cgroups_path: cgroups_path.filter(|path| !path.is_empty()),
            root: raw.root.and_then(|root| root.path),
        })
    }
}

/// Annotations are strings. What is not and is not ours is nobody's concern.
fn of_text(map: &Map<String, Value>) -> Result<Annotations, OciError> {
    let mut annotations = Annotations::new();
    for (key, value) in map {
        match value {
            Value::String(value) => {
                annotations.insert(key.clone(), value.clone());
            }
            _ if key.starts_with(PREFIX) => return Err(OciError::NotText(key.clone())),
            _ => {}
        }
    }
    Ok(annotations)
}

/// All of a stream, up to [`SIZE_MAX`]; `what` is for messages.
///
/// # Errors
///
/// Where it is longer, or can't be read.
pub fn read_bounded(from: impl Read, what: &str) -> Result<Vec<u8>, OciError> {
    let mut text = Vec::new();
    from.take(SIZE_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|source| OciError::Io {
            what: what.to_owned(),
            source,
        })?;
    if text.len() as u64 > SIZE_MAX {
        return Err(OciError::TooLong(what.to_owned()));
    }
    Ok(text)
}

/// A container, from all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Who it is.
    pub owner: Owner,
    /// First process; 0 where there is none.
    pub pid: i32,
    /// Its annotations.
    pub annotations: Annotations,
    /// `linux.cgroupsPath` of its configuration.
    pub cgroups_path: Option<String>,
    /// The root of its file systems, while its first process is not there yet:
    /// in a `createRuntime` hook.
    pub root: Option<PathBuf>,
}

impl Container {
    /// The state's annotations win; those that it lacks are the configuration's.
    #[must_use]
    pub fn new(state: State, config: Config) -> Self {
        let mut annotations = config.annotations;
        annotations.extend(state.annotations.unwrap_or_default());
        let root = match (config.root, &state.bundle) {
            (Some(root), Some(bundle)) => Some(bundle.join(root)),
            (Some(root), None) => Some(root).filter(|root| root.is_absolute()),
            (None, _) => None,
        };
        Self {
            owner: owner(&state.id, &annotations, config.cgroups_path.as_deref()),
            pid: state.pid,
            annotations,
            cgroups_path: config.cgroups_path,
            root,
        }
    }

    /// Whether it is what holds a pod's namespaces. It has its pod's annotations,
    /// but runs no program of the user's.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        // Closed: an engine writes its own key over what the pod says, and may leave
        // another engine's to the pod, so both must say it.
        let mut kinds = SANDBOX_KEYS
            .iter()
            .filter_map(|key| self.annotations.get(*key))
            .peekable();
        kinds.peek().is_some() && kinds.all(|kind| kind == "sandbox")
    }

    /// Whether an annotation of ours is on it.
    #[must_use]
    pub fn is_annotated(&self) -> bool {
        !self.is_sandbox() && scope::has_ours(&self.annotations)
    }

    /// What holds for it on this node; `None` where nothing. The labels of its
    /// pod are not known.
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container.
    pub fn spec(&self, node: &Node) -> Result<Option<Spec>, SpecError> {
        if self.is_sandbox() {
            return Ok(None);
        }
        node.spec_of(&self.annotations, &self.owner, None)
    }
}

/// What a container is to its pod: containerd's and CRI-O's key. Sources:
/// containerd `internal/cri/annotations`, CRI-O `internal/annotations`.
const SANDBOX_KEYS: [&str; 2] = [
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.ContainerType",
];

/// Where engines write a container's name, its pod's and the pod's namespace. Those
/// of one engine may be the pod's own word under another, so CRI-O's come first
/// where that is the engine.
const NAME_KEYS: [&str; 3] = [
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
    "nerdctl/name",
];
const POD_KEYS: [&str; 2] = ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const NAMESPACE_KEYS: [&str; 2] = [
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.pod.namespace",
];

/// Where engines write the name of a container's image.
const IMAGE_KEYS: [&str; 2] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
];

/// What containerd's keys begin with.
const CONTAINERD_PREFIX: &str = "io.kubernetes.cri.";

/// Names of the engine in `linux.cgroupsPath`: the part before the id.
const ENGINES: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("libpod", "podman"),
    ("libpod_parent", "podman"),
    ("crio", "cri-o"),
    ("cri-containerd", "containerd"),
    ("nerdctl", "nerdctl"),
];

/// The name of a container's image, from its annotations; empty where it is not there.
#[must_use]
pub fn image<'a>(annotation: impl Fn(&str) -> Option<&'a String>) -> &'a str {
    let mut values = IMAGE_KEYS.into_iter().filter_map(annotation);
    values.next().map_or("", String::as_str)
}

fn owner(id: &str, annotations: &Annotations, cgroups_path: Option<&str>) -> Owner {
    let engine = engine(annotations, cgroups_path);
    let first = |keys: &[&str]| {
        let containerds = |key: &&str| key.starts_with(CONTAINERD_PREFIX);
        let (own, others): (Vec<&str>, Vec<&str>) = keys.iter().partition(|key| !containerds(key));
        let keys = if engine == "cri-o" {
            [own, others].concat()
        } else {
            keys.to_vec()
        };
        let mut values = keys.iter().filter_map(|key| annotations.get(*key));
        values.next().cloned().unwrap_or_default()
    };
    Owner {
        container: id.to_owned(),
        name: first(&NAME_KEYS),
        engine: engine.to_owned(),
        pod: first(&POD_KEYS),
        namespace: first(&NAMESPACE_KEYS),
        image: image(|key| annotations.get(key)).to_owned(),
    }
}

fn engine(annotations: &Annotations, cgroups_path: Option<&str>) -> &'static str {
    match annotations.get("io.container.manager").map(String::as_str) {
        Some("libpod") => return "podman",
        Some("cri-o") => return "cri-o",
        _ => {}
    }
    let any = |prefix: &str| annotations.keys().any(|key| key.starts_with(prefix));
    if any("io.kubernetes.cri-o.") {
        return "cri-o";
    }
    if any(CONTAINERD_PREFIX) {
        return "containerd";
    }
    if any("nerdctl/") {
        return "nerdctl";
    }
    let words = cgroups_path.unwrap_or_default().split(['/', ':']);
    words
        .filter_map(|word| ENGINES.iter().find(|(part, _)| *part == word))
        .map(|(_, engine)| *engine)
        .next()
        .unwrap_or("oci")
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
