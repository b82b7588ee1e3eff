//! From what a user calls a container to the container: so far those that are
//! bound, and cgroups.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    lock::RUN_DIR,
    record::{Owner, Records},
};

/// A container that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who it is.
    pub owner: Owner,
    /// Where it is.
    pub place: Place,
    /// Whether it runs.
    pub running: bool,
    /// What its engine knows of our annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Where a container is.
#[derive(Clone, Debug)]
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
}

/// No such container.
#[derive(Debug, thiserror::Error)]
#[error("no bound container {0:?} (cgroup:/PATH names any cgroup)")]
pub struct LookupError(String);

/// Where to look.
#[derive(Clone, Debug)]
pub struct Sources {
    run_dir: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            run_dir: RUN_DIR.into(),
        }
    }
}

impl Sources {
    /// With containerd's socket elsewhere.
    #[must_use]
    pub fn with_containerd(self, _socket: &Path) -> Self {
        self
    }

    /// The container that is called so.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn find(&self, query: &str) -> Result<Found, LookupError> {
        let found = |owner, path| Found {
            owner,
            place: Place::Cgroup(path),
            running: true,
            annotations: BTreeMap::new(),
        };
        if let Some(path) = query.strip_prefix("cgroup:") {
            return Ok(found(Owner::default(), path.to_owned()));
        }
        let records = Records::below(&self.run_dir).all().into_iter();
        let mut records =
            records.filter(|record| record.owner.container == query || record.owner.name == query);
        match records.next() {
            Some(record) => Ok(found(record.owner, record.path)),
            None => Err(LookupError(query.to_owned())),
        }
    }

    /// All containers that are known.
    #[must_use]
    pub fn list(&self) -> (Vec<Found>, Vec<String>) {
        (Vec::new(), Vec::new())
    }
}
