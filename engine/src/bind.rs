//! Binds cgroups to policies: the one call that everything ends in.
//!
//! The order makes every instant safe: the policy is complete before its id is
//! in a container's entry, the level is searched before an entry is on it, and
//! the entry itself is one write. A process that is killed in between leaves a
//! container without an entry (its start is refused or never answered) and a
//! policy that the next collection removes.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
};

use plugin_common::{
    Container, LEVEL_MAX, MODE_AUDIT, MODE_ENFORCE, POLICY_BUILDING, POLICY_READY,
};
use rustix::time::ClockId;

use crate::{
    annotation::{Mode, Spec},
    cgroup::{Cgroup, CgroupError, Hierarchy},
    kernel::{MapError, Maps, PinError, Pins},
    lock::{Lock, LockError, RUN_DIR},
    policy::Policy,
    record::{Owner, Record, RecordError, Records},
    root,
};

/// Why a container was not bound. Nothing is half-applied.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No cgroup to bind.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// No pins, or unusable ones.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map, most likely a full one.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Binds, unbinds and collects. Opens the pins anew under the lock for each
/// call: they may have been replaced since the last one.
#[derive(Clone, Debug)]
pub struct Binder {
    pins: Pins,
    run_dir: PathBuf,
    hierarchy: Hierarchy,
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
        })
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

    /// Binds a container by its first process.
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container with the reason.
    pub fn bind_container(
        &self,
        owner: &Owner,
        pid: i32,
        spec: &Spec,
    ) -> Result<Cgroup, BindError> {
        let cgroup = self.hierarchy.of_container(pid, &owner.container)?;
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let policy = Policy::compile(&root::with_real_directories(&spec.deny, &root));
        let records = Records::below(&self.run_dir);
        let _lock = Lock::acquire(&self.run_dir)?;
        let mut maps = self.pins.open()?;
        let before = records.read(&owner.container)?;
        records.write(&Record {
            owner: owner.clone(),
            cgroup: cgroup.id,
            path: cgroup.path.clone(),
            deny: spec.deny.iter().map(ToString::to_string).collect(),
            mode: match spec.mode {
                Mode::Enforce => "enforce".to_owned(),
                Mode::Audit => "audit".to_owned(),
            },
        })?;
        if let Err(error) = self.bind_or_collect(&mut maps, &cgroup, &policy, spec.mode) {
            // An earlier binding still holds, and keeps its record.
            match before {
                Some(record) => records.write(&record)?,
                None => records.remove(&owner.container)?,
            }
            return Err(error.into());
        }
        Ok(cgroup)
    }

    /// Forgets a container that was bound by [`Self::bind_container`]. Returns
    /// whether there was one.
    ///
    /// # Errors
    ///
    /// Where the maps can't be written; the entry is collected later.
    pub fn unbind_container(&self, container: &str) -> Result<bool, BindError> {
        let records = Records::below(&self.run_dir);
        let _lock = Lock::acquire(&self.run_dir)?;
        let Some(record) = records.read(container)? else {
            return Ok(false);
        };
        self.pins.open()?.remove_container(record.cgroup)?;
        records.remove(container)?;
        Ok(true)
    }

    /// Binds a cgroup of our own.
    ///
    /// # Errors
    ///
    /// Where it could not be bound; nothing is left behind.
    pub fn bind(&self, cgroup: &Cgroup, policy: &Policy, mode: Mode) -> Result<(), BindError> {
        let _lock = Lock::acquire(&self.run_dir)?;
        let mut maps = self.pins.open()?;
        Ok(self.bind_or_collect(&mut maps, cgroup, policy, mode)?)
    }

    /// Forgets a cgroup of our own.
    ///
    /// # Errors
    ///
    /// Where the maps can't be written.
    pub fn unbind(&self, cgroup: u64) -> Result<(), BindError> {
        let _lock = Lock::acquire(&self.run_dir)?;
        Ok(self.pins.open()?.remove_container(cgroup)?)
    }

    /// Forgets cgroups that no longer exist, and the policies and records that
    /// nothing uses. Returns the number of containers forgotten.
    ///
    /// # Errors
    ///
    /// Where the maps can't be read or written.
    pub fn collect(&self) -> Result<usize, BindError> {
        let _lock = Lock::acquire(&self.run_dir)?;
        let mut maps = self.pins.open()?;
        Ok(self.collect_locked(&mut maps)?)
    }

    /// The records of what is bound.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        Records::below(&self.run_dir).all()
    }

    /// A full map is tried once more without what is dead.
    fn bind_or_collect(
        &self,
        maps: &mut Maps,
        cgroup: &Cgroup,
        policy: &Policy,
        mode: Mode,
    ) -> Result<(), MapError> {
        match bind(maps, cgroup, policy, mode) {
            Err(MapError::Full(map)) => {
                log::info!("the map {map} is full, forgetting what is dead");
                self.collect_locked(maps)?;
                bind(maps, cgroup, policy, mode)
            }
            other => other,
        }
    }

    fn collect_locked(&self, maps: &mut Maps) -> Result<usize, MapError> {
        let mut dead = 0;
        let mut used = HashSet::new();
        let mut bound = BTreeSet::new();
        for (id, container) in maps.containers()? {
            if self.hierarchy.is_alive(id) {
                used.insert(container.policy);
                bound.insert(id);
            } else {
                maps.remove_container(id)?;
                dead += 1;
            }
        }
        forget_policies(maps, &used)?;
        let records = Records::below(&self.run_dir);
        for record in records
            .all()
            .iter()
            .filter(|record| !bound.contains(&record.cgroup))
        {
            if let Err(error) = records.remove(&record.owner.container) {
                log::warn!("{error}");
            }
        }
        Ok(dead)
    }
}

/// Binds a cgroup in `maps`; the caller has the lock, or the maps to itself.
pub(crate) fn bind(
    maps: &mut Maps,
    cgroup: &Cgroup,
    policy: &Policy,
    mode: Mode,
) -> Result<(), MapError> {
    let id = ensure_policy(maps, policy)?;
    ensure_level(maps, cgroup.level)?;
    maps.set_container(
        cgroup.id,
        Container {
            policy: id,
            kinds: policy.kinds,
            mode: match mode {
                Mode::Enforce => MODE_ENFORCE,
                Mode::Audit => MODE_AUDIT,
            },
            bound_at: now(),
            ..Container::default()
        },
    )
}

/// Forgets all policies but the `used`, with their entries.
pub(crate) fn forget_policies(maps: &mut Maps, used: &HashSet<u32>) -> Result<(), MapError> {
    let policies = maps.policies()?.into_iter().map(|(id, _)| id);
    let unused: HashSet<u32> = policies.filter(|id| !used.contains(id)).collect();
    if unused.is_empty() {
        return Ok(());
    }
    for key in maps
        .rule_keys()?
        .iter()
        .filter(|key| unused.contains(&key.policy))
    {
        maps.remove_rule(key)?;
    }
    for id in unused {
        maps.remove_policy(id)?;
    }
    Ok(())
}

/// The id under which the policy is in the maps, complete.
fn ensure_policy(maps: &mut Maps, policy: &Policy) -> Result<u32, MapError> {
    let mut id = policy.preferred_id();
    while let Some(there) = maps.policy(id)? {
        if there.digest == policy.digest {
            if there.state == POLICY_READY {
                return Ok(id);
            }
            break;
        }
        // Another policy with the same first bytes: the next free id.
        id = id.checked_add(1).unwrap_or(1);
    }
    let entry = |state| plugin_common::Policy {
        digest: policy.digest,
        kinds: policy.kinds,
        entries: u32::try_from(policy.len()).unwrap_or(u32::MAX),
        state,
        reserved: 0,
    };
    maps.set_policy(id, entry(POLICY_BUILDING))?;
    for (key, value) in policy.entries(id) {
        if let Err(error) = maps.set_rule(key, value) {
            // Nothing half-applied: what fitted goes again.
            for (key, _) in policy.entries(id) {
                maps.remove_rule(&key)?;
            }
            maps.remove_policy(id)?;
            return Err(error);
        }
    }
    maps.set_policy(id, entry(POLICY_READY))?;
    Ok(id)
}

/// Makes the kernel side look at the level; at all of them where a cgroup
/// namespace hides which it is.
fn ensure_level(maps: &mut Maps, level: Option<u32>) -> Result<(), MapError> {
    let mut config = maps.config()?;
    let wanted = match level {
        Some(level) => 1 << level.min(LEVEL_MAX),
        None => !1,
    };
    if config.levels & wanted != wanted {
        config.levels |= wanted;
        config.deepest = config.levels.checked_ilog2().unwrap_or(0);
        maps.set_config(config)?;
    }
    Ok(())
}

/// Nanoseconds of `CLOCK_BOOTTIME`, as the kernel side counts.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
