//! From the maps of one set of programs to those of the next, while both refuse.

use std::collections::BTreeMap;

use aya::maps::HashMap;
use plugin_common::{Config, Flow, Hit, HitKey};

use super::maps::{FLOWS, HITS, MapError, Maps, other};

impl Maps {
    /// Takes over what holds: policies with their entries, the levels, and then the
    /// containers, of which it returns how many. Both are of one ABI.
    ///
    /// # Errors
    ///
    /// Where something has no room. The others still hold, so fails closed.
    pub fn take_over(&mut self, others: &Self) -> Result<usize, MapError> {
        for (key, value) in others.rules()? {
            self.set_rule(key, value)?;
        }
        for (key, value) in others.globs()? {
            self.set_glob(&key, value)?;
        }
        for (id, policy) in others.policies()? {
            self.set_policy(id, policy)?;
        }
        let Config {
            levels, deepest, ..
        } = others.config()?;
        let config = self.config()?;
        self.set_config(Config {
            levels,
            deepest,
            ..config
        })?;
        let containers = others.containers()?;
        for (cgroup, container) in &containers {
            self.set_container(*cgroup, *container)?;
        }
        Ok(containers.len())
    }

    /// Adds what other programs have counted of each container. Those of these maps
    /// run: what they count of the same rule in the same instant may be lost.
    ///
    /// # Errors
    ///
    /// Where the maps can't be read or written. Verdicts don't depend on counts.
    pub fn add_counts(&mut self, others: &Self) -> Result<(), MapError> {
        let key = |key: &HitKey| (key.cgroup, key.rule);
        let own = self.hits()?.into_iter().map(|(own, hit)| (key(&own), hit));
        let own: BTreeMap<_, Hit> = own.collect();
        for (of, hit) in others.hits()? {
            let new = own.get(&key(&of)).copied().unwrap_or_default();
            self.set_hit(
                of,
                Hit {
                    count: hit.count + new.count,
                    last: hit.last.max(new.last),
                },
            )?;
        }
        let own: BTreeMap<u64, Flow> = self.flows()?.into_iter().collect();
        for (cgroup, flow) in others.flows()? {
            let new = own.get(&cgroup).copied().unwrap_or_default();
            self.set_flow(
                cgroup,
                Flow {
                    sent: flow.sent + new.sent,
                    lost: flow.lost + new.lost,
                    since: flow.since.max(new.since),
                    tried: flow.tried + new.tried,
                },
            )?;
        }
        Ok(())
    }

    /// Sets what a rule did in a cgroup. The programs count meanwhile.
    fn set_hit(&mut self, key: HitKey, value: Hit) -> Result<(), MapError> {
        let mut hits: HashMap<_, HitKey, Hit> =
            HashMap::try_from(&mut self.hits).map_err(other(HITS))?;
        hits.insert(key, value, 0).map_err(other(HITS))
    }

    /// Sets what became of the events of a cgroup. The programs count meanwhile.
    fn set_flow(&mut self, cgroup: u64, value: Flow) -> Result<(), MapError> {
        let mut flows: HashMap<_, u64, Flow> =
            HashMap::try_from(&mut self.flows).map_err(other(FLOWS))?;
        flows.insert(cgroup, value, 0).map_err(other(FLOWS))
    }
}
