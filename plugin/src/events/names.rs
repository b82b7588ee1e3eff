//! Who a cgroup is and what its rules are called: from the records, read when
//! something is asked that is not known yet.

use std::collections::HashMap;

use execblock::{
    clock,
    order::{In, Origin},
    policy::{self, rule_id},
    record::{Owner, Record},
    records::Records,
};

use super::report::Named;

/// Most cgroups that are kept in mind; then it begins anew.
const KNOWN_MAX: usize = 1000;

/// What is known of cgroups.
#[derive(Debug)]
pub(crate) struct Names {
    records: Records,
    known: HashMap<u64, Known>,
}

#[derive(Debug, Default)]
struct Known {
    owner: Owner,
    init: u32,
    /// `None` for a rule that no record has: asked for once.
    rules: HashMap<u32, Option<(In, String, Origin)>>,
}

impl Names {
    pub(crate) fn new(records: Records) -> Self {
        Self {
            records,
            known: HashMap::new(),
        }
    }

    /// What is known of a cgroup and one of its rules.
    pub(crate) fn of(&mut self, cgroup: u64, rule: u32) -> Named {
        let reserved = policy::reserved(rule).is_some();
        let learnt = self
            .known
            .get(&cgroup)
            .is_some_and(|known| reserved || known.rules.contains_key(&rule));
        if !learnt {
            self.learn(cgroup);
        }
        let Some(known) = self.known.get_mut(&cgroup) else {
            return Named::default();
        };
        Named {
            owner: known.owner.clone(),
            init: known.init,
            // The command line may give it a rule after this one was asked for, but
            // not one of the same id.
            rule: if reserved {
                None
            } else {
                known.rules.entry(rule).or_default().clone()
            },
        }
    }

    /// Who a cgroup is.
    pub(crate) fn owner(&mut self, cgroup: u64) -> Owner {
        if !self.known.contains_key(&cgroup) {
            self.learn(cgroup);
        }
        let known = self.known.get(&cgroup);
        known.map_or_else(Owner::default, |known| known.owner.clone())
    }

    fn learn(&mut self, cgroup: u64) {
        let found = match self.records.of_cgroup(cgroup) {
            Ok(None) => self.records.of_gone_cgroup(cgroup),
            found => found,
        };
        match found {
            Ok(Some(record)) => {
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                }
                self.known.insert(cgroup, known(&record));
            }
            Ok(None) => {}
            Err(error) => log::warn!("{error}"),
        }
    }
}

fn known(record: &Record) -> Known {
    let rules = match (record.spec(), record.orders()) {
        (Ok(spec), Ok(orders)) => orders
            .lines(spec.as_ref(), clock::now())
            .into_iter()
            .map(|line| {
                let named = (line.list, line.rule.to_string(), line.origin);
                (rule_id(&line.rule), Some(named))
            })
            .collect(),
        (Err(error), _) | (_, Err(error)) => {
            log::warn!("{error}");
            HashMap::new()
        }
    };
    Known {
        owner: record.owner.clone(),
        init: record.init,
        rules,
    }
}
