//! Binds containers to rules: the one call that everything ends in.
//!
//! A process that is killed in between leaves a container without an entry (its
//! start is refused or never answered), or one whose entry is whole, and a policy
//! that the next collection removes.

mod error;
mod held;
mod rebind;
mod session;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use plugin_common::{Container, Flow, Hit};

pub(crate) use self::rebind::rebind;
pub use self::{
    error::BindError,
    held::Collected,
    session::{Rebound, Session},
};

use self::held::{Held, Home};
use crate::{
    annotation::{Drift, Mode, Spec},
    cgroup::{Cgroup, CgroupError, Hierarchy, Init},
    clock,
    kernel::{Maps, PinError, Pins},
    lock::{Lock, RUN_DIR},
    order::{Change, Orders},
    record::{Owner, Record},
    records::Records,
    site::Namespaces,
};

/// Where a container is that gets an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// By its first process.
    Init(Init<'a>),
    /// By its path in the v2 hierarchy; whose it is stands in its record, if it
    /// has one.
    Cgroup(&'a str),
}

/// What became of a container that its engine says is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// It was not bound.
    Unknown,
    /// It is forgotten.
    Done,
    /// Processes run under that id, or left its cgroup: they stay under their rules.
    InUse,
}

/// A bound cgroup, for a report.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The cgroup: key of the map `containers`.
    pub cgroup: u64,
    /// What the kernel has.
    pub container: Container,
    /// Who it is; `None` where that was lost.
    pub record: Option<Record>,
    /// What its rules did, by [`rule_id`](crate::policy::rule_id).
    pub hits: HashMap<u32, Hit>,
    /// What became of its events.
    pub flow: Flow,
}

/// Binds, unbinds and collects. Looks at the pins anew under the lock for each call: they
/// may have been replaced since the last one.
#[derive(Clone, Debug)]
pub struct Binder {
    pins: Pins,
    run_dir: PathBuf,
    hierarchy: Hierarchy,
    /// The namespaces of the runtime whose containers are bound.
    runtime: Namespaces,
    /// The maps of the call before, while nobody uses them.
    kept: Arc<Mutex<Option<Maps>>>,
}

impl Binder {
    /// For the usual places.
    ///
    /// # Errors
    ///
    /// Where no cgroup v2 is mounted.
    pub fn new() -> Result<Self, CgroupError> {
        Ok(Self {
            pins: Pins::default(),
            run_dir: PathBuf::from(RUN_DIR),
            hierarchy: Hierarchy::find()?,
            // Without them nothing of the runtime is exempted, which is closed.
            runtime: Namespaces::own().unwrap_or_default(),
            kept: Arc::default(),
        })
    }

    /// Sets the namespaces of the runtime whose containers are bound, where they
    /// are not this process's own.
    pub fn set_runtime(&mut self, runtime: Namespaces) {
        self.runtime = runtime;
    }

    /// The hierarchy whose cgroups are bound.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The pins that are written to.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Where lock and records lie.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The cgroup of a container.
    ///
    /// # Errors
    ///
    /// Where it has none that may be bound.
    pub fn cgroup(&self, owner: &Owner, place: Place<'_>) -> Result<Cgroup, CgroupError> {
        match place {
            Place::Init(init) => self.hierarchy.of_container(init, &owner.container),
            Place::Cgroup(path) => self.hierarchy.cgroup(path),
        }
    }

    /// Binds a container by its first process. What the command line ordered
    /// for it stays. Returns what is kept of it.
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container with the reason.
    pub fn bind_container<'a>(
        &self,
        owner: &Owner,
        init: impl Into<Init<'a>>,
        spec: &Spec,
    ) -> Result<Record, BindError> {
        let init = init.into();
        let cgroup = self.hierarchy.of_container(init, &owner.container)?;
        let mut session = self.session()?;
        let record = session.bind(owner, init, &cgroup, spec)?;
        self.keep(session.held);
        Ok(record)
    }

    /// To bind many: lock and maps are taken once. Others wait meanwhile.
    ///
    /// # Errors
    ///
    /// Where the lock or the maps can't be had.
    pub fn session(&self) -> Result<Session<'_>, BindError> {
        let lock = Lock::acquire(&self.run_dir)?;
        Ok(Session {
            held: self.open()?,
            runtime: self.runtime,
            _lock: lock,
        })
    }

    /// Binds a cgroup of our own to orders alone.
    ///
    /// # Errors
    ///
    /// Where it could not be bound; nothing is left behind.
    pub fn bind_own(
        &self,
        owner: &Owner,
        cgroup: &Cgroup,
        orders: &Orders,
        mode: Mode,
        drift: Drift,
    ) -> Result<(), BindError> {
        let _lock = Lock::acquire(&self.run_dir)?;
        let mut held = self.open()?;
        let mut record = Record::new(owner, cgroup, None, orders);
        record.set_mode(mode);
        record.set_drift(drift);
        let home = Home {
            pid: None,
            root: Path::new("/"),
            // No runtime, and so nothing to exempt.
            runtime: Namespaces::default(),
        };
        held.apply(&mut record, None, cgroup, &home)
    }

    /// Changes what holds for a running container, in one step for the kernel.
    /// `annotations` are those that the engine knows: they are bound as well
    /// where the container was not. Returns the record as it is then; `None`
    /// where nothing is left to hold.
    ///
    /// # Errors
    ///
    /// Nothing is changed.
    pub fn change(
        &self,
        owner: &Owner,
        place: Place<'_>,
        annotations: Option<&Spec>,
        change: &Change,
    ) -> Result<Option<Record>, BindError> {
        let cgroup = self.cgroup(owner, place)?;
        let pid = match place {
            Place::Init(init) => Some(init.pid),
            Place::Cgroup(_) => self.hierarchy.any_process(&cgroup),
        };
        let root = pid.map_or_else(|| PathBuf::from("/"), process_root);
        let _lock = Lock::acquire(&self.run_dir)?;
        let mut held = self.open()?;
        let before = held.records.of_cgroup(cgroup.id)?;
        let (spec, orders) = match &before {
            Some(record) => (
                record.spec()?.or_else(|| annotations.cloned()),
                record.orders()?,
            ),
            None => (annotations.cloned(), Orders::default()),
        };
        let orders = orders.after(spec.as_ref(), change, clock::now())?;
        let unnamed = Owner::of_cgroup(&cgroup);
        let owner = match (&before, place) {
            // Its engine knows it best.
            (_, Place::Init(_)) => owner,
            (Some(record), Place::Cgroup(_)) => &record.owner,
            (None, Place::Cgroup(_)) => &unnamed,
        };
        let mut record = Record::new(owner, &cgroup, spec.as_ref(), &orders);
        if let Some(before) = &before {
            record.mode.clone_from(&before.mode);
            record.init = before.init;
        }
        if spec.is_none() && orders.is_empty() {
            if let Some(before) = &before {
                held.forget(before)?;
            }
            return Ok(None);
        }
        let home = Home {
            pid,
            root: &root,
            runtime: held.runtime_of(cgroup.id)?.unwrap_or(self.runtime),
        };
        held.apply(&mut record, before, &cgroup, &home)?;
        Ok(Some(record))
    }

    /// Forgets a container of which nothing runs any more.
    ///
    /// # Errors
    ///
    /// Where the maps can't be written; the entry is collected later.
    pub fn unbind_container(&self, container: &str) -> Result<Unbound, BindError> {
        // Most containers are not ours; these cost no lock.
        if self.records().of_container(container)?.is_empty() {
            return Ok(Unbound::Unknown);
        }
        let _lock = Lock::acquire(&self.run_dir)?;
        let mut result = Unbound::Unknown;
        let mut carried = None;
        for record in self.records().of_container(container)? {
            // Closed: it may be another engine's container of the same id, or one
            // that its engine did not manage to stop.
            if self.hierarchy.is_populated(record.cgroup, &record.path) {
                result = Unbound::InUse;
                continue;
            }
            let mut held = self.open()?;
            if held.is_carried(record.cgroup, &mut carried) {
                result = Unbound::InUse;
                continue;
            }
            held.forget(&record)?;
            self.keep(held);
            if result == Unbound::Unknown {
                result = Unbound::Done;
            }
        }
        Ok(result)
    }

    /// Forgets cgroups that no longer exist, and the policies, counts and records
    /// that nothing uses. Returns what is left.
    ///
    /// # Errors
    ///
    /// Where the maps can't be read or written.
    pub fn collect(&self) -> Result<Collected, BindError> {
        let _lock = Lock::acquire(&self.run_dir)?;
        Ok(self.open()?.collect(None)?)
    }

    /// The records of what is bound.
    #[must_use]
    pub fn records(&self) -> Records {
        Records::below(&self.run_dir)
    }

    /// All that is bound, with what its rules did.
    ///
    /// # Errors
    ///
    /// Where the maps can't be read.
    pub fn bound(&self) -> Result<Vec<Bound>, BindError> {
        let _lock = Lock::acquire(&self.run_dir)?;
        let Held { maps, .. } = self.open()?;
        let mut records: HashMap<u64, Record> = self
            .records()
            .all()
            .into_iter()
            .map(|record| (record.cgroup, record))
            .collect();
        let mut hits: HashMap<u64, HashMap<u32, Hit>> = HashMap::new();
        for (key, hit) in maps.hits()? {
            hits.entry(key.cgroup).or_default().insert(key.rule, hit);
        }
        let mut flows: HashMap<u64, Flow> = maps.flows()?.into_iter().collect();
        let containers = maps.containers()?.into_iter();
        Ok(containers
            .map(|(cgroup, container)| Bound {
                cgroup,
                container,
                record: records.remove(&cgroup),
                hits: hits.remove(&cgroup).unwrap_or_default(),
                flow: flows.remove(&cgroup).unwrap_or_default(),
            })
            .collect())
    }

    /// The maps and records, for whoever has the lock.
    fn open(&self) -> Result<Held<'_>, PinError> {
        self.pins.recover()?;
        let kept = self.kept().take();
        Ok(Held {
            pins: &self.pins,
            maps: self.pins.open_again(kept)?,
            records: self.records(),
            hierarchy: &self.hierarchy,
        })
    }

    /// For the next call: to open a map is three system calls.
    fn keep(&self, held: Held<'_>) {
        *self.kept() = Some(held.maps);
    }

    fn kept(&self) -> MutexGuard<'_, Option<Maps>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The root of a process's file systems.
fn process_root(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}
