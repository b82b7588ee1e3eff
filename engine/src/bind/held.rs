//! What is done to maps and records by whoever has the lock.

use std::{collections::HashSet, path::Path};

use plugin_common::{CONFIG_DRIFT, Container};

use super::BindError;
use crate::{
    annotation::{Drift, Spec},
    cgroup::{Cgroup, Hierarchy},
    clock,
    entry::{self, Terms},
    kernel::{MapError, Maps, Pins},
    policy::{self, List, Policy, rule_id},
    record::Record,
    records::Records,
    root::{self, Links},
    site::{Namespaces, Site},
};

/// What a container's rules are looked up in.
pub(super) struct Home<'a> {
    /// A process of it; `None` for this one.
    pub(super) pid: Option<i32>,
    /// The root of its file systems.
    pub(super) root: &'a Path,
    pub(super) runtime: Namespaces,
}

/// What is left after what is dead was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many containers were forgotten.
    pub dead: usize,
    /// Ids of those that are bound; of one that is by several cgroups, several times.
    pub containers: Vec<String>,
}

/// Maps and records under the lock.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) pins: &'a Pins,
    pub(super) maps: Maps,
    pub(super) records: Records,
    pub(super) hierarchy: &'a Hierarchy,
}

impl Held<'_> {
    /// The record of what a container is bound to already: by itself, or by its cgroup's
    /// path, for which all records are looked through.
    pub(super) fn before(&self, container: &str, cgroup: u64) -> Result<Option<Record>, BindError> {
        if let Some(record) = self.records.read(container, cgroup)? {
            return Ok(Some(record));
        }
        if self.maps.container(cgroup)?.is_none() {
            return Ok(None);
        }
        Ok(self.records.of_cgroup(cgroup)?)
    }

    /// Writes the record and binds what it says. Where that fails what was
    /// `before` stays.
    pub(super) fn apply(
        &mut self,
        record: &mut Record,
        before: Option<Record>,
        cgroup: &Cgroup,
        home: &Home<'_>,
    ) -> Result<(), BindError> {
        if self.holds_already(record, before.as_ref(), cgroup, home.runtime)? {
            return Ok(());
        }
        let spec = record.spec()?;
        let rules = record.orders()?.rules(spec.as_ref(), clock::now());
        let spec = spec.unwrap_or_default();
        let known = before.as_ref().map(|before| &before.links);
        record.links = root::links(&rules, known.unwrap_or(&Links::new()), home.root)
            .map_err(|source| BindError::Root(home.root.to_owned(), source))?;
        let rules = root::rules_in(rules, spec.bounded, &record.links);
        if spec.drift != Drift::Off && self.maps.config()?.flags & CONFIG_DRIFT == 0 {
            return Err(BindError::NoDrift);
        }
        let terms = Terms {
            mode: record.mode()?,
            drift: spec.drift,
            site: self.site(cgroup, &spec, &rules.allow, home)?,
            since: None,
        };
        let policy = Policy::compile(&rules);
        record.policy = policy::hex(&policy.digest);
        if before.as_ref() != Some(record) {
            self.records.write(record)?;
        }
        if let Err(error) = self.bind_or_collect(cgroup, &policy, terms) {
            if !before.as_ref().is_some_and(|before| before.is_of(record)) {
                self.records
                    .remove(&record.owner.container, record.cgroup)?;
            }
            if let Some(before) = before {
                self.records.write(&before)?;
            }
            return Err(error.into());
        }
        // The cgroup has one record: it may have been bound by its path before its
        // engine named it.
        if let Some(before) = before.filter(|before| !before.is_of(record)) {
            self.records
                .remove(&before.owner.container, before.cgroup)?;
        }
        Ok(())
    }

    /// Whether all that the record says was said before and is in the maps, as after a
    /// restart, when the engine tells all its containers: then nothing is compiled or
    /// written. What was ordered may have ended since, and is compiled anew.
    fn holds_already(
        &mut self,
        record: &mut Record,
        before: Option<&Record>,
        cgroup: &Cgroup,
        runtime: Namespaces,
    ) -> Result<bool, BindError> {
        let Some(before) = before.filter(|before| before.orders.is_empty()) else {
            return Ok(false);
        };
        record.links.clone_from(&before.links);
        record.policy.clone_from(&before.policy);
        if record != before {
            return Ok(false);
        }
        let Some(there) = self.maps.container(cgroup.id)? else {
            return Ok(false);
        };
        let drift = record.drift()?;
        let site = if drift == Drift::Off && record.allow.is_empty() {
            Site::default()
        } else if let Some(site) = known_site(&there, drift, runtime) {
            site
        } else {
            return Ok(false);
        };
        let terms = Terms {
            mode: record.mode()?,
            drift,
            site,
            since: None,
        };
        let bound = entry::is_bound(&mut self.maps, cgroup, there, &record.policy, terms);
        Ok(bound?)
    }

    /// What drift and allow-lists ask for; nothing where there are none.
    ///
    /// What was found when the container was bound stays: by now its processes may
    /// have made a root and a mount namespace of their own.
    fn site(
        &self,
        cgroup: &Cgroup,
        spec: &Spec,
        allow: &List,
        home: &Home<'_>,
    ) -> Result<Site, BindError> {
        let drift = spec.drift != Drift::Off;
        if !drift && allow.is_empty() {
            return Ok(Site::default());
        }
        let there = self.maps.container(cgroup.id)?;
        if let Some(site) = there.and_then(|there| known_site(&there, spec.drift, home.runtime)) {
            return Ok(site);
        }
        let own = std::process::id().cast_signed();
        let pid = home.pid.unwrap_or(own);
        Ok(Site::of(pid, home.root, home.runtime, drift)?)
    }

    /// The namespaces of the runtime of a cgroup that is bound with an allow-list or
    /// drift; zeros where it has none.
    pub(super) fn runtime_of(&self, cgroup: u64) -> Result<Option<Namespaces>, MapError> {
        let known = self.maps.container(cgroup)?;
        let known = known.filter(|container| container.mnt_ns != 0);
        Ok(known.as_ref().map(runtime_in))
    }

    /// A full map is tried once more without what is dead.
    fn bind_or_collect(
        &mut self,
        cgroup: &Cgroup,
        policy: &Policy,
        terms: Terms,
    ) -> Result<(), MapError> {
        match entry::bind(&mut self.maps, cgroup, policy, terms) {
            Err(MapError::Full(map)) => {
                log::info!("the map {map} is full, forgetting what is dead");
                self.collect(Some(cgroup.id))?;
                entry::bind(&mut self.maps, cgroup, policy, terms)
            }
            other => other,
        }
    }

    pub(super) fn forget(&mut self, record: &Record) -> Result<(), BindError> {
        self.maps.remove_container(record.cgroup)?;
        let (spec, orders) = (record.spec()?, record.orders()?);
        let rules = orders.all_rules(spec.as_ref()).map(rule_id);
        for rule in rules.chain(policy::RESERVED) {
            self.maps.remove_hit(&plugin_common::HitKey {
                cgroup: record.cgroup,
                rule,
                reserved: 0,
            })?;
        }
        self.maps.remove_flow(record.cgroup)?;
        self.records
            .remove(&record.owner.container, record.cgroup)?;
        Ok(())
    }

    /// Whether a process that is alive carries the cgroup, outside of it: it stays
    /// under those rules. `known` are all that are carried, once they were looked for.
    pub(super) fn is_carried(&self, cgroup: u64, known: &mut Option<HashSet<u64>>) -> bool {
        if known.is_none() {
            match self.pins.carried() {
                Ok(carried) => *known = Some(carried),
                // Closed: nothing is forgotten that may be in use.
                Err(error) => {
                    log::warn!("looking for processes that left their cgroup: {error}");
                    return true;
                }
            }
        }
        known
            .as_ref()
            .is_some_and(|carried| carried.contains(&cgroup))
    }

    /// `binding` has its record already, and its entry not yet.
    pub(super) fn collect(&mut self, binding: Option<u64>) -> Result<Collected, MapError> {
        let mut dead = 0;
        let living = self.hierarchy.living();
        let mut used = HashSet::new();
        let mut bound: HashSet<u64> = binding.into_iter().collect();
        let mut carried = None;
        for (id, container) in self.maps.containers()? {
            if living.has(id) || self.is_carried(id, &mut carried) {
                used.insert(container.policy);
                bound.insert(id);
            } else {
                self.maps.remove_container(id)?;
                dead += 1;
            }
        }
        entry::forget_unused_policies(&mut self.maps, &used)?;
        entry::forget_counts(&mut self.maps, &bound)?;
        self.records.adopt();
        let all = self.records.tidied().into_iter();
        let (left, gone): (Vec<_>, Vec<_>) = all.partition(|(_, cgroup)| bound.contains(cgroup));
        for (container, cgroup) in gone {
            if let Err(error) = self.records.remove(&container, cgroup) {
                log::warn!("{error}");
            }
        }
        let containers = left.into_iter().map(|(container, _)| container).collect();
        Ok(Collected { dead, containers })
    }
}

/// Where a container lives, if its entry tells all that is asked for. The runtime may
/// have come back with other namespaces.
fn known_site(there: &Container, drift: Drift, runtime: Namespaces) -> Option<Site> {
    let is_known = there.mnt_ns != 0 && (drift == Drift::Off || there.root_dev != 0);
    is_known.then(|| Site {
        root_dev: there.root_dev,
        mnt_ns: there.mnt_ns,
        runtime: Site::exempted(there.mnt_ns, runtime),
    })
}

/// The namespaces of the runtime that an entry exempts.
fn runtime_in(container: &Container) -> Namespaces {
    Namespaces {
        mnt: container.runtime_mnt_ns,
        pid: container.runtime_pid_ns,
    }
}
