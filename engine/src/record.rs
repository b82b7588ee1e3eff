//! What is bound, for people and for the next process of ours: one JSON file a
//! container. The maps hold what the kernel needs, this holds the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

pub use crate::owner::Owner;

use crate::{
    annotation::{Drift, Mode, Rule, Spec},
    cgroup::Cgroup,
    order::{Order, Orders},
    origin::{Origin, Origins},
    root::Links,
};

/// A bound container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who it is.
    #[serde(flatten)]
    pub owner: Owner,
    /// The bound cgroup: key of the map `containers`.
    pub cgroup: u64,
    /// Its path in the v2 hierarchy.
    pub path: String,
    /// Its first process, in the initial pid namespace; 0 where that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub init: u32,
    /// What its annotations, profiles and defaults deny; empty where nothing.
    pub deny: Vec<String>,
    /// What they allow; empty where there is no allow-list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// `enforce` or `audit`.
    pub mode: String,
    /// `deny`, `audit` or `off`; empty as `off`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub drift: String,
    /// See [`Spec::bounded`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bounded: bool,
    /// Where the rules of `deny` come from that no annotation names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deny_origins: BTreeMap<String, Origin>,
    /// The same of `allow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow_origins: BTreeMap<String, Origin>,
    /// What the command line ordered, by rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub orders: BTreeMap<String, Order>,
    /// What the directories of path rules stood for when they were bound.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: Links,
}

impl Record {
    /// What a container is bound to.
    #[must_use]
    pub fn new(owner: &Owner, cgroup: &Cgroup, spec: Option<&Spec>, orders: &Orders) -> Self {
        let orders = orders.by_rule().iter();
        let none = Spec::default();
        let spec = spec.unwrap_or(&none);
        let texts = |rules: &BTreeSet<Rule>| rules.iter().map(ToString::to_string).collect();
        let origins = |origins: &BTreeMap<Rule, Origin>| {
            let origins = origins.iter();
            origins
                .map(|(rule, origin)| (rule.to_string(), origin.clone()))
                .collect()
        };
        let mut record = Self {
            owner: owner.clone(),
            cgroup: cgroup.id,
            path: cgroup.path.clone(),
            init: 0,
            deny: texts(&spec.deny),
            allow: texts(&spec.allow),
            mode: String::new(),
            drift: String::new(),
            bounded: spec.bounded,
            deny_origins: origins(&spec.origins.deny),
            allow_origins: origins(&spec.origins.allow),
            orders: orders
                .map(|(rule, order)| (rule.to_string(), *order))
                .collect(),
            links: Links::new(),
        };
        record.set_mode(spec.mode);
        record.set_drift(spec.drift);
        record
    }

    /// Whether both are kept in the same file.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.owner.container, self.cgroup) == (&other.owner.container, other.cgroup)
    }

    /// Sets what becomes of a denied program.
    pub fn set_mode(&mut self, mode: Mode) {
        mode.name().clone_into(&mut self.mode);
    }

    /// What becomes of a denied program.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn mode(&self) -> Result<Mode, RecordError> {
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == self.mode)
            .ok_or_else(|| self.wrong(format!("mode {:?}", self.mode)))
    }

    /// Sets what becomes of files that did not come with the image.
    pub fn set_drift(&mut self, drift: Drift) {
        let text = if drift == Drift::Off {
            ""
        } else {
            drift.name()
        };
        text.clone_into(&mut self.drift);
    }

    /// What becomes of files that did not come with the image.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn drift(&self) -> Result<Drift, RecordError> {
        if self.drift.is_empty() {
            return Ok(Drift::Off);
        }
        Drift::ALL
            .into_iter()
            .find(|drift| drift.name() == self.drift)
            .ok_or_else(|| self.wrong(format!("drift {:?}", self.drift)))
    }

    /// What annotations, profiles and defaults ask for; `None` where nothing.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn spec(&self) -> Result<Option<Spec>, RecordError> {
        let rules = |texts: &[String]| -> Result<BTreeSet<Rule>, RecordError> {
            texts.iter().map(|text| self.rule(text)).collect()
        };
        let origins = |texts: &BTreeMap<String, Origin>| {
            let origins = texts.iter();
            let origins = origins.map(|(text, origin)| Ok((self.rule(text)?, origin.clone())));
            origins.collect::<Result<BTreeMap<Rule, Origin>, RecordError>>()
        };
        let spec = Spec {
            deny: rules(&self.deny)?,
            allow: rules(&self.allow)?,
            mode: self.mode()?,
            drift: self.drift()?,
            bounded: self.bounded,
            origins: Origins {
                deny: origins(&self.deny_origins)?,
                allow: origins(&self.allow_origins)?,
            },
        };
        Ok(Some(spec).filter(|spec| !spec.is_empty()))
    }

    /// What the command line ordered.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn orders(&self) -> Result<Orders, RecordError> {
        let orders = self.orders.iter();
        let orders = orders.map(|(text, order)| Ok((self.rule(text)?, *order)));
        Ok(Orders::new(orders.collect::<Result<_, RecordError>>()?))
    }

    fn rule(&self, text: &str) -> Result<Rule, RecordError> {
        text.parse()
            .map_err(|reason| self.wrong(format!("rule {text:?}: {reason}")))
    }

    fn wrong(&self, problem: String) -> RecordError {
        RecordError::Content {
            container: self.owner.container.clone(),
            problem,
        }
    }
}

/// A record that could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The engine's id would make a bad file name.
    #[error("container id {0:?} is not of letters, digits, '_', '+', '.' and '-' (at most 128)")]
    Id(String),
    /// A file.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A record that holds what no version of ours writes.
    #[error("the record of {container} holds a {problem}: somebody changed it")]
    Content {
        /// The container.
        container: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that was not understood.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// The directory of the records: a file `CONTAINER.CGROUP.json` for each.
///
/// The cgroup is in the name because a container's id is its engine's, and two
/// engines, or two namespaces of one, may use the same.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
    /// Those that were put away.
    gone: PathBuf,
}

impl Records {
    /// Records below our run directory.
    #[must_use]
    pub fn below(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.join("containers"),
            gone: run_dir.join("gone"),
        }
    }

    /// Writes one, whole or not at all.
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.path(&record.owner.container, record.cgroup)?;
        let failed = |call, path: &Path| {
            let path = path.to_owned();
            move |source| RecordError::Io { call, path, source }
        };
        crate::lock::private_dir(&self.dir).map_err(failed("mkdir", &self.dir))?;
        let text = serde_json::to_vec_pretty(record).map_err(|source| RecordError::Json {
            path: path.clone(),
            source,
        })?;
        let new = path.with_extension(UNFINISHED);
        private_file(&new)
            .and_then(|mut file| file.write_all(&text))
            .map_err(failed("write", &new))?;
        fs::rename(&new, &path).map_err(failed("rename", &path))
    }

    /// The record of a container's cgroup, if there is one.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be understood.
    pub fn read(&self, container: &str, cgroup: u64) -> Result<Option<Record>, RecordError> {
        read(&self.path(container, cgroup)?)
    }

    /// The records of all containers with this id, of whatever engine.
    ///
    /// # Errors
    ///
    /// The first that can't be understood.
    pub fn of_container(&self, container: &str) -> Result<Vec<Record>, RecordError> {
        let names = self.names().into_iter();
        names
            .filter(|(known, _)| known == container)
            .filter_map(|(known, cgroup)| self.read(&known, cgroup).transpose())
            .collect()
    }

    /// The record of what is bound by this cgroup, if there is one.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be understood.
    pub fn of_cgroup(&self, cgroup: u64) -> Result<Option<Record>, RecordError> {
        match self.names().into_iter().find(|(_, known)| *known == cgroup) {
            Some((container, cgroup)) => self.read(&container, cgroup),
            None => Ok(None),
        }
    }

    /// The same, where it is most likely this container's: found without a look at all.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be understood.
    pub fn of_cgroup_of(
        &self,
        container: &str,
        cgroup: u64,
    ) -> Result<Option<Record>, RecordError> {
        match self.read(container, cgroup)? {
            Some(record) => Ok(Some(record)),
            None => self.of_cgroup(cgroup),
        }
    }

    /// Puts one away; nothing where there is none. Reports of what the container did
    /// last still find it, for [`KEPT`].
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn remove(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.path(&record.owner.container, record.cgroup)?;
        let gone = &self.gone;
        let io = |call, path: &Path| {
            let path = path.to_owned();
            move |source| RecordError::Io { call, path, source }
        };
        crate::lock::private_dir(gone).map_err(io("mkdir", gone))?;
        forget_old(gone);
        let to = gone.join(path.file_name().unwrap_or_default());
        // Its age is counted from now.
        let moved = fs::File::open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .and_then(|()| fs::rename(&path, &to));
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io("rename", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The record of a cgroup that was bound not long ago, if there is one.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be understood.
    pub fn of_gone_cgroup(&self, cgroup: u64) -> Result<Option<Record>, RecordError> {
        let gone = Self {
            dir: self.gone.clone(),
            gone: self.gone.clone(),
        };
        gone.of_cgroup(cgroup)
    }

    /// All records. One that can't be understood is logged and left out: it
    /// protects nothing, the maps do.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        let names = self.names().into_iter();
        names
            .filter_map(|(container, cgroup)| match self.read(&container, cgroup) {
                Ok(record) => record,
                Err(error) => {
                    log::warn!("{error}");
                    None
                }
            })
            .collect()
    }

    /// Removes what writers that were killed have left. Nobody else writes meanwhile.
    pub(crate) fn remove_unfinished(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        for path in paths.filter(|path| path.extension().is_some_and(|end| end == UNFINISHED)) {
            if let Err(error) = fs::remove_file(&path) {
                log::warn!("{}: {error}", path.display());
            }
        }
    }

    /// Removes the directory and what is in it.
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn remove_all(&self) -> Result<(), RecordError> {
        for dir in [&self.dir, &self.gone] {
            match fs::remove_dir_all(dir) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(RecordError::Io {
                        call: "rm -r",
                        path: dir.clone(),
                        source,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Containers and cgroups that have a record.
    fn names(&self) -> Vec<(String, u64)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (container, cgroup) = name.strip_suffix(".json")?.rsplit_once('.')?;
            Some((container.to_owned(), cgroup.parse().ok()?))
        });
        names.collect()
    }

    fn path(&self, container: &str, cgroup: u64) -> Result<PathBuf, RecordError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
        let fits = (1..=128).contains(&container.len());
        if !fits || container.starts_with('.') || !container.chars().all(plain) {
            return Err(RecordError::Id(container.to_owned()));
        }
        Ok(self.dir.join(format!("{container}.{cgroup}.json")))
    }
}

/// The ending of a record that is being written.
const UNFINISHED: &str = "new";

/// Opens a file anew that root alone may read. Closed: a link in its place is an
/// error, and nothing is written through it.
fn private_file(path: &Path) -> io::Result<fs::File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

/// How long the record of a container that is gone is kept.
pub const KEPT: Duration = Duration::from_mins(10);

fn forget_old(gone: &Path) {
    let entries = fs::read_dir(gone).into_iter().flatten().flatten();
    let is_old = |entry: &fs::DirEntry| {
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > KEPT))
    };
    for entry in entries.filter(is_old) {
        // Tried again the next time.
        if let Err(error) = fs::remove_file(entry.path()) {
            log::warn!("{}: {error}", entry.path().display());
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn read(path: &Path) -> Result<Option<Record>, RecordError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| RecordError::Json {
                path: path.to_owned(),
                source,
            }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError::Io {
            call: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
