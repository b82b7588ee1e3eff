//! A container that older programs refuse for, bound in the maps of new ones.

use plugin_common::Container;

use super::BindError;
use crate::{
    cgroup::Hierarchy,
    clock,
    entry::{self, Terms},
    kernel::Maps,
    policy::Policy,
    record::Record,
    root,
    site::{Namespaces, Site},
};

/// Binds what the record says. Where the container lives was found when it was bound
/// first: by now its processes may have made other places.
pub(crate) fn rebind(
    maps: &mut Maps,
    hierarchy: &Hierarchy,
    record: &Record,
    before: &Container,
) -> Result<(), BindError> {
    let spec = record.spec()?;
    let rules = record.orders()?.rules(spec.as_ref(), clock::now());
    let spec = spec.unwrap_or_default();
    let rules = root::rules_in(rules, spec.bounded, &record.links);
    let cgroup = hierarchy.recorded(record.cgroup, &record.path);
    let terms = Terms {
        mode: record.mode()?,
        drift: record.drift()?,
        site: Site {
            root_dev: before.root_dev,
            mnt_ns: before.mnt_ns,
            runtime: Namespaces {
                mnt: before.runtime_mnt_ns,
                pid: before.runtime_pid_ns,
            },
        },
        since: Some(before.bound_at),
    };
    Ok(entry::bind(maps, &cgroup, &Policy::compile(&rules), terms)?)
}
