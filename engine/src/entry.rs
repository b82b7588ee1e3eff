//! The writes that make and forget an entry, in the order that keeps every
//! instant safe. Whoever calls has the lock, or the maps to itself.

use std::collections::HashSet;

use plugin_common::{
    Container, DRIFT_AUDIT, DRIFT_DENY, DRIFT_OFF, LEVEL_MAX, MODE_AUDIT, MODE_ENFORCE,
    POLICY_BUILDING, POLICY_READY,
};
use rustix::thread::MembarrierCommand;

use crate::{
    annotation::{Drift, Mode},
    cgroup::Cgroup,
    clock,
    kernel::{MapError, Maps},
    policy::{self, Policy},
    site::Site,
};

/// What holds for a cgroup beside its rules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) mode: Mode,
    pub(crate) drift: Drift,
    pub(crate) site: Site,
    /// When it was bound, where that was before and is not in the maps.
    pub(crate) since: Option<u64>,
}

/// Binds a cgroup: the policy is complete before its id is in the entry, the
/// level is searched before an entry is on it, and the entry itself is one
/// write. A cgroup that is bound already keeps the time of its binding.
pub(crate) fn bind(
    maps: &mut Maps,
    cgroup: &Cgroup,
    policy: &Policy,
    terms: Terms,
) -> Result<(), MapError> {
    let id = ensure_policy(maps, policy)?;
    ensure_level(maps, cgroup.level)?;
    let before = maps.container(cgroup.id)?;
    let bound_at = before
        .map(|before| before.bound_at)
        .or(terms.since)
        .unwrap_or_else(clock::now);
    maps.set_container(cgroup.id, container(id, policy.kinds, terms, bound_at))
}

/// The entry of a cgroup.
fn container(policy: u32, kinds: u32, terms: Terms, bound_at: u64) -> Container {
    Container {
        policy,
        kinds,
        mode: match terms.mode {
            Mode::Enforce => MODE_ENFORCE,
            Mode::Audit => MODE_AUDIT,
        },
        drift: match terms.drift {
            Drift::Off => DRIFT_OFF,
            Drift::Audit => DRIFT_AUDIT,
            Drift::Deny => DRIFT_DENY,
        },
        bound_at,
        root_dev: terms.site.root_dev,
        mnt_ns: terms.site.mnt_ns,
        runtime_mnt_ns: terms.site.runtime.mnt,
        runtime_pid_ns: terms.site.runtime.pid,
    }
}

/// Whether the entry `there` is what [`bind`] would make it for the policy of this digest.
pub(crate) fn is_bound(
    maps: &mut Maps,
    cgroup: &Cgroup,
    there: Container,
    digest: &str,
    terms: Terms,
) -> Result<bool, MapError> {
    let policy = maps.policy(there.policy)?;
    let policy = policy
        .filter(|policy| policy.state == POLICY_READY && policy::hex(&policy.digest) == digest);
    let Some(policy) = policy else {
        return Ok(false);
    };
    ensure_level(maps, cgroup.level)?;
    Ok(there == container(there.policy, policy.kinds, terms, there.bound_at))
}

/// Forgets all policies but the `used`, with their entries, while programs run.
pub(crate) fn forget_unused_policies(maps: &mut Maps, used: &HashSet<u32>) -> Result<(), MapError> {
    let unused = unused_policies(maps, used)?;
    if unused.is_empty() {
        return Ok(());
    }
    // A program that runs right now may have read the entry that a container had
    // before, and must still find that one's rules. Programs run inside of RCU's
    // read side, and this command waits for all of it to end (synchronize_rcu,
    // kernel/sched/membarrier.c).
    let waited = rustix::thread::membarrier(MembarrierCommand::Global);
    if let Err(error) = waited {
        // EINVAL on a kernel with nohz_full. Fails closed: they stay.
        log::warn!("{} unused policies stay: membarrier: {error}", unused.len());
        return Ok(());
    }
    remove_policies(maps, &unused)
}

/// Forgets all policies, in maps that no program looks at.
pub(crate) fn forget_policies(maps: &mut Maps) -> Result<(), MapError> {
    let unused = unused_policies(maps, &HashSet::new())?;
    remove_policies(maps, &unused)
}

fn unused_policies(maps: &Maps, used: &HashSet<u32>) -> Result<HashSet<u32>, MapError> {
    let policies = maps.policies()?.into_iter().map(|(id, _)| id);
    Ok(policies.filter(|id| !used.contains(id)).collect())
}

fn remove_policies(maps: &mut Maps, unused: &HashSet<u32>) -> Result<(), MapError> {
    for key in maps
        .rule_keys()?
        .iter()
        .filter(|key| unused.contains(&key.policy))
    {
        maps.remove_rule(key)?;
    }
    for key in maps
        .glob_keys()?
        .iter()
        .filter(|key| unused.contains(&key.policy))
    {
        maps.remove_glob(key)?;
    }
    for id in unused {
        maps.remove_policy(*id)?;
    }
    Ok(())
}

/// Forgets what was counted for any cgroup but the `bound`.
pub(crate) fn forget_counts(maps: &mut Maps, bound: &HashSet<u64>) -> Result<(), MapError> {
    for (key, _) in maps.hits()? {
        if !bound.contains(&key.cgroup) {
            maps.remove_hit(&key)?;
        }
    }
    for (cgroup, _) in maps.flows()? {
        if !bound.contains(&cgroup) {
            maps.remove_flow(cgroup)?;
        }
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
    if let Err(error) = set_entries(maps, policy, id) {
        // Nothing half-applied: what fitted goes again.
        for (key, _) in policy.entries(id) {
            maps.remove_rule(&key)?;
        }
        for (key, _) in policy.glob_entries(id) {
            maps.remove_glob(&key)?;
        }
        maps.remove_policy(id)?;
        return Err(error);
    }
    maps.set_policy(id, entry(POLICY_READY))?;
    Ok(id)
}

fn set_entries(maps: &mut Maps, policy: &Policy, id: u32) -> Result<(), MapError> {
    for (key, value) in policy.entries(id) {
        maps.set_rule(key, value)?;
    }
    for (key, value) in policy.glob_entries(id) {
        maps.set_glob(&key, value)?;
    }
    Ok(())
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
