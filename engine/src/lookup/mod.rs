//! From what a user calls a container to the container, whichever engine has it.
//!
//! ```text
//! containerd's socket ─┐
//! Docker's directory ──┤
//! containers/storage ──┼──► Found… ──► matching::select ──► one
//! runc's, crun's ──────┤
//! our own records ─────┘
//! ```
//! Directories are read as their engines write them: they are root's, as this
//! process is, so a link in them is trusted as much as their content. Nothing is
//! cached. A process id is only a number until the binder has a pidfd of it.

mod containerd;
mod docker;
mod matching;
mod runtime;
mod storage;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{annotation::PREFIX, lock::RUN_DIR, oci, record::Owner, records::Records};

/// A container that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it is.
    pub owner: Owner,
    /// Where it is.
    pub place: Place,
    /// Annotations of ours that its engine knows.
    pub annotations: BTreeMap<String, String>,
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By its first process.
    Init {
        /// Its id in this pid namespace.
        pid: i32,
        /// `linux.cgroupsPath` of its configuration.
        cgroups_path: Option<String>,
    },
    /// By its path in the v2 hierarchy.
    Cgroup(String),
    /// It does not run.
    Nowhere,
}

impl Found {
    /// What was read of a container; `pid` is 0 where it does not run.
    fn new(container: oci::Container) -> Self {
        let mut annotations = container.annotations;
        annotations.retain(|key, _| key.starts_with(PREFIX));
        Self {
            owner: container.owner,
            place: Place::of_process(container.pid, container.cgroups_path),
            annotations,
        }
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.place != Place::Nowhere
    }
}

impl Place {
    /// A file may name a process that is long gone.
    fn of_process(pid: i32, cgroups_path: Option<String>) -> Self {
        let lives = pid > 0 && Path::new("/proc").join(pid.to_string()).exists();
        if lives {
            Self::Init { pid, cgroups_path }
        } else {
            Self::Nowhere
        }
    }
}

/// No container, or more than one.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// None is called so.
    #[error("no container {query:?}; looked at:{}", lines(.looked_at))]
    NotFound {
        /// What was asked for.
        query: String,
        /// The sources and their answers.
        looked_at: Vec<Looked>,
    },
    /// Several are.
    #[error("{query:?} is more than one container:{}", lines(.candidates))]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// It ended, or has not started.
    #[error("container {0} does not run: only a running container has a cgroup")]
    NotRunning(String),
}

fn lines<T: fmt::Display>(of: &[T]) -> String {
    of.iter()
        .fold(String::new(), |all, one| format!("{all}\n  {one}"))
}

/// What came of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Engine and place.
    pub source: String,
    /// Number of containers, or why there is none.
    pub answer: String,
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.answer)
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Sockets of containerd.
    pub containerd: Vec<PathBuf>,
    /// Docker's data root.
    pub docker: PathBuf,
    /// `graphroot` of containers/storage: Podman and CRI-O.
    pub storage: PathBuf,
    /// `runroot` of containers/storage.
    pub storage_run: PathBuf,
    /// Where runc keeps its containers.
    pub runc: PathBuf,
    /// Where crun does.
    pub crun: PathBuf,
    /// Where our own records are.
    pub run_dir: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        let (storage, storage_run) = storage::configured();
        Self {
            containerd: containerd::SOCKETS.map(PathBuf::from).to_vec(),
            docker: docker::configured(),
            storage,
            storage_run,
            runc: "/run/runc".into(),
            crun: "/run/crun".into(),
            run_dir: RUN_DIR.into(),
        }
    }
}

impl Sources {
    /// With containerd's socket elsewhere.
    #[must_use]
    pub fn with_containerd(mut self, socket: &Path) -> Self {
        self.containerd = vec![socket.to_owned()];
        self
    }

    /// The running container that is called so: by its id, its name, `POD/NAME`,
    /// `NAMESPACE/POD/NAME`, the beginning of its id, or `cgroup:/PATH`, in this
    /// order.
    ///
    /// # Errors
    ///
    /// Where there is not exactly one.
    pub fn find(&self, query: &str) -> Result<Found, LookupError> {
        if let Some(path) = query.strip_prefix("cgroup:") {
            return Ok(cgroup(path));
        }
        let (found, looked_at) = self.list();
        matching::select(query, &found, looked_at)
    }

    /// All containers that are known, each once, and what came of each source.
    #[must_use]
    pub fn list(&self) -> (Vec<Found>, Vec<Looked>) {
        let mut all = Vec::new();
        let mut looked_at = Vec::new();
        let mut take = |source: String, answer: Result<Vec<Found>, String>| {
            let answer = match answer {
                Ok(found) => {
                    let count = found.len();
                    for one in found {
                        add(&mut all, one);
                    }
                    match count {
                        1 => "1 container".to_owned(),
                        count => format!("{count} containers"),
                    }
                }
                Err(reason) => reason,
            };
            looked_at.push(Looked { source, answer });
        };
        // Whoever knows most of a container comes first: it is taken once.
        take(
            format!("Docker {}", self.docker.display()),
            docker::list(&self.docker),
        );
        take(
            format!("Podman (not rootless) and CRI-O {}", self.storage.display()),
            storage::list(&self.storage, &self.storage_run),
        );
        for socket in &self.containerd {
            take(
                format!("containerd {}", socket.display()),
                containerd::list(socket),
            );
        }
        take(
            format!("runc {}", self.runc.display()),
            runtime::runc(&self.runc),
        );
        take(
            format!("crun {}", self.crun.display()),
            runtime::crun(&self.crun),
        );
        let records = Records::below(&self.run_dir).all().into_iter();
        let bound = records.map(|record| Found {
            owner: record.owner,
            place: Place::Cgroup(record.path),
            annotations: BTreeMap::new(),
        });
        take(
            format!("bound, {}", self.run_dir.display()),
            Ok(bound.collect()),
        );
        (all, looked_at)
    }
}

/// What is read of a container that containerd lists: its id, its labels, its
/// specification's JSON. `None` for what holds a pod's namespaces.
#[doc(hidden)]
#[must_use]
pub fn of_containerd(
    id: String,
    labels: impl Iterator<Item = (String, String)>,
    spec: &[u8],
    namespace: &str,
) -> Option<Found> {
    containerd::of_parts(id, labels, spec, namespace)
}

/// Two with one id are the same, unless both run and are other processes, or
/// they are in two namespaces of containerd, where ids are only unique in each.
/// Docker's own directory names no namespace.
fn add(all: &mut Vec<Found>, one: Found) {
    let apart = |known: &Owner, one: &Owner| {
        let spaces = [&known.namespace, &one.namespace];
        known.pod.is_empty()
            && one.pod.is_empty()
            && spaces.iter().all(|space| !space.is_empty())
            && spaces[0] != spaces[1]
    };
    let same = |known: &Found| {
        known.owner.container == one.owner.container
            && !apart(&known.owner, &one.owner)
            && match (&known.place, &one.place) {
                (Place::Init { pid: known, .. }, Place::Init { pid, .. }) => known == pid,
                _ => true,
            }
    };
    match all.iter_mut().find(|known| same(known)) {
        // The source that knows its process is right. A record of ours is not one:
        // it may outlive the container until it is collected.
        Some(known) if !known.is_running() && matches!(one.place, Place::Init { .. }) => {
            known.place = one.place;
        }
        Some(_) => {}
        None => all.push(one),
    }
}

/// A cgroup by its path, also below the usual mount points.
fn cgroup(path: &str) -> Found {
    const MOUNTS: [&str; 2] = ["/sys/fs/cgroup/unified/", "/sys/fs/cgroup/"];
    let below = MOUNTS.iter().find_map(|mount| path.strip_prefix(mount));
    let path = match below {
        Some(below) => format!("/{below}"),
        None => path.to_owned(),
    };
    Found {
        owner: Owner::default(),
        place: Place::Cgroup(path),
        annotations: BTreeMap::new(),
    }
}

/// The names in a directory.
fn names(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(|error| not_there(&error))?;
    let names = entries.flatten();
    Ok(names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

/// A file of an engine's, bounded.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = fs::File::open(path).ok()?;
    oci::read_bounded(file, &path.display().to_string()).ok()
}

/// A file of an engine's that is JSON.
fn read_json(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&read(path)?).ok()
}

fn not_there(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        _ => error.to_string(),
    }
}
