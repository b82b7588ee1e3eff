//! Lock and maps, held to bind one container or many.

use std::path::Path;

use super::{
    BindError,
    held::{Held, Home},
    process_root,
};
use crate::{
    annotation::Spec,
    cgroup::{Cgroup, Init},
    lock::Lock,
    order::Orders,
    record::{Owner, Record},
    site::Namespaces,
};

/// What [`Binder::session`](super::Binder::session) takes.
#[derive(Debug)]
pub struct Session<'a> {
    pub(super) held: Held<'a>,
    pub(super) runtime: Namespaces,
    // Given back behind all else.
    pub(super) _lock: Lock,
}

/// A container that is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebound {
    /// What is kept of it.
    pub record: Record,
    /// Whether its cgroup was bound before.
    pub before: bool,
}

impl Session<'_> {
    /// Whether a cgroup of the container is bound. Says no in doubt: an alarm too many.
    #[must_use]
    pub fn is_bound(&self, container: &str) -> bool {
        let mut cgroups = self.held.records.cgroups_of(container);
        cgroups.any(|cgroup| matches!(self.held.maps.container(cgroup), Ok(Some(_))))
    }

    /// As [`Binder::bind_container`](super::Binder::bind_container).
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container with the reason, and may go on with
    /// others.
    pub fn bind_container<'a>(
        &mut self,
        owner: &Owner,
        init: impl Into<Init<'a>>,
        spec: &Spec,
    ) -> Result<Rebound, BindError> {
        let init = init.into();
        let cgroup = self.held.hierarchy.of_container(init, &owner.container)?;
        let before = self.held.maps.container(cgroup.id)?.is_some();
        let record = self.bind(owner, init, &cgroup, spec)?;
        Ok(Rebound { record, before })
    }

    pub(super) fn bind(
        &mut self,
        owner: &Owner,
        init: Init<'_>,
        cgroup: &Cgroup,
        spec: &Spec,
    ) -> Result<Record, BindError> {
        let before = self.held.before(&owner.container, cgroup.id)?;
        let orders = match &before {
            Some(record) => record.orders()?,
            None => Orders::default(),
        };
        let mut record = Record::new(owner, cgroup, Some(spec), &orders);
        record.init = init.pid.try_into().unwrap_or(0);
        let root = init
            .root
            .map_or_else(|| process_root(init.pid), Path::to_owned);
        let home = Home {
            pid: Some(init.pid),
            root: &root,
            runtime: self.runtime,
        };
        self.held.apply(&mut record, before, cgroup, &home)?;
        Ok(record)
    }
}
