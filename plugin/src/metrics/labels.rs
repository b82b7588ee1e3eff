//! Under which names denials are told, and how many names there can be.
//!
//! The kernel forgets the count of a container with the container. Here a total
//! goes on: a counter that falls would look like a restart, and all that is left
//! of it like new denials.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use execblock::{
    policy::{self, rule_id},
    record::{Owner, Record},
};
use plugin_common::{Flow, Hit, HitKey};
use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};

/// Most label sets of one metric; what is over is told under [`REST`].
pub(super) const SERIES_MAX: usize = 10_000;
/// Most counts without a name that are kept in mind; then records are read again.
const MISSING_MAX: usize = SERIES_MAX;
/// Longest value of a label, in bytes.
const VALUE_MAX: usize = 256;
/// Stands for all that has no room of its own.
const REST: &str = "(other)";
/// Stands for what no record names.
const UNKNOWN: &str = "(unknown)";

/// Labels of a count. Those that are not asked for are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    container: Option<[String; 4]>,
    rule: Option<String>,
}

const CONTAINER: [&str; 4] = ["container", "name", "namespace", "pod"];

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        let container = self.container.iter().flatten();
        for (name, value) in CONTAINER.into_iter().zip(container) {
            (name, value.as_str()).encode(encoder.encode_label())?;
        }
        if let Some(rule) = &self.rule {
            ("rule", rule.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// What is known of names, and of what was counted before.
#[derive(Debug)]
pub(super) struct Naming {
    by_container: bool,
    by_rule: bool,
    /// What is bound, by cgroup.
    owners: HashMap<u64, [String; 4]>,
    /// Texts of rules, by the id that is made from the text.
    rules: HashMap<u32, String>,
    /// What was found in vain, so that it is not looked for at each scrape.
    missing: HashSet<(u64, u32)>,
    /// Counts of the kernel as they were at the scrape before.
    seen: HashMap<(u64, u32), u64>,
    totals: BTreeMap<Labels, u64>,
}

impl Naming {
    pub(super) fn new(by_container: bool, by_rule: bool) -> Self {
        let mut totals = BTreeMap::new();
        if !by_container && !by_rule {
            // A rate needs a zero to begin with.
            totals.insert(Labels::default(), 0);
        }
        Self {
            by_container,
            by_rule,
            owners: HashMap::new(),
            rules: HashMap::new(),
            missing: HashSet::new(),
            seen: HashMap::new(),
            totals,
        }
    }

    /// The totals by their labels, with what the kernel counted since.
    pub(super) fn denials(
        &mut self,
        hits: &[(HitKey, Hit)],
        records: impl FnOnce() -> Vec<Record>,
    ) -> &BTreeMap<Labels, u64> {
        self.learn(hits.iter().map(|(key, _)| (key.cgroup, key.rule)), records);
        let mut now = HashMap::with_capacity(hits.len());
        for (key, hit) in hits {
            let key = (key.cgroup, key.rule);
            let before = self.seen.get(&key).copied().unwrap_or(0);
            // A smaller one is another that began anew.
            let more = hit.count.checked_sub(before).unwrap_or(hit.count);
            now.insert(key, hit.count);
            let labels = self.labels(key);
            *room(&mut self.totals, labels) += more;
        }
        self.seen = now;
        if self.by_container {
            self.forget_the_gone();
        }
        &self.totals
    }

    /// Events lost, by container.
    pub(super) fn lost(
        &mut self,
        flows: &[(u64, Flow)],
        records: impl FnOnce() -> Vec<Record>,
    ) -> BTreeMap<Labels, u64> {
        self.learn(flows.iter().map(|(cgroup, _)| (*cgroup, 0)), records);
        let mut told: BTreeMap<Labels, u64> = BTreeMap::new();
        for (cgroup, flow) in flows {
            let labels = Labels {
                container: Some(self.container(*cgroup)),
                rule: None,
            };
            *room(&mut told, labels) += flow.lost;
        }
        told
    }

    /// Reads the records where a name is missing, once for each.
    fn learn(
        &mut self,
        wanted: impl Iterator<Item = (u64, u32)>,
        records: impl FnOnce() -> Vec<Record>,
    ) {
        let unknown: Vec<(u64, u32)> = wanted
            .filter(|(cgroup, rule)| {
                let container = self.by_container && !self.owners.contains_key(cgroup);
                let text = self.by_rule
                    && *rule != 0
                    && policy::reserved(*rule).is_none()
                    && !self.rules.contains_key(rule);
                (container || text) && !self.missing.contains(&(*cgroup, *rule))
            })
            .collect();
        if unknown.is_empty() {
            return;
        }
        // No more than is counted: what is gone is forgotten here. A rule that was
        // cleared keeps its name for as long as it has a count.
        let seen = self.seen.keys().chain(&unknown);
        let ids: HashSet<u32> = seen.map(|(_, rule)| *rule).collect();
        self.rules.retain(|rule, _| ids.contains(rule));
        self.owners.clear();
        for record in records() {
            if let (Ok(spec), Ok(orders)) = (record.spec(), record.orders()) {
                for rule in orders.all_rules(spec.as_ref()) {
                    let id = rule_id(rule);
                    if ids.contains(&id) {
                        self.rules.insert(id, short(&rule.to_string()));
                    }
                }
            }
            self.owners.insert(record.cgroup, values(&record.owner));
        }
        // Those of before too, or two would take turns, and all be read each time.
        let missing = self.missing.drain().chain(unknown);
        self.missing = missing
            .filter(|(cgroup, rule)| {
                !self.owners.contains_key(cgroup) || !self.rules.contains_key(rule)
            })
            .take(MISSING_MAX)
            .collect();
    }

    fn labels(&self, (cgroup, rule): (u64, u32)) -> Labels {
        let text = || match policy::reserved(rule) {
            Some(text) => text.to_owned(),
            None => self
                .rules
                .get(&rule)
                .map_or_else(|| UNKNOWN.to_owned(), Clone::clone),
        };
        Labels {
            container: self.by_container.then(|| self.container(cgroup)),
            rule: self.by_rule.then(text),
        }
    }

    fn container(&self, cgroup: u64) -> [String; 4] {
        self.owners.get(&cgroup).cloned().unwrap_or_else(|| {
            let unknown = UNKNOWN.to_owned();
            [unknown, String::new(), String::new(), String::new()]
        })
    }

    /// A container's series ends with it.
    fn forget_the_gone(&mut self) {
        let there: BTreeSet<Labels> = self.seen.keys().map(|key| self.labels(*key)).collect();
        self.totals
            .retain(|labels, _| there.contains(labels) || *labels == rest(labels));
    }
}

/// The count under these labels, or under those for the rest where there is no
/// room for more.
fn room(totals: &mut BTreeMap<Labels, u64>, labels: Labels) -> &mut u64 {
    let labels = if totals.len() < SERIES_MAX || totals.contains_key(&labels) {
        labels
    } else {
        rest(&labels)
    };
    totals.entry(labels).or_default()
}

/// The same labels with values that stand for all others.
fn rest(labels: &Labels) -> Labels {
    let other = || REST.to_owned();
    Labels {
        container: labels
            .container
            .as_ref()
            .map(|_| [other(), String::new(), String::new(), String::new()]),
        rule: labels.rule.as_ref().map(|_| other()),
    }
}

fn values(owner: &Owner) -> [String; 4] {
    [&owner.container, &owner.name, &owner.namespace, &owner.pod].map(|value| short(value))
}

/// What a pod chooses may be long, and may be anything.
fn short(text: &str) -> String {
    let plain = text.replace(char::is_control, "\u{fffd}");
    let end = plain.floor_char_boundary(VALUE_MAX);
    plain[..end].to_owned()
}
