//! Containers that run without their rules: which, and how many.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicU64},
};

use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;

/// Their ids; the gauge has their number.
#[derive(Debug)]
pub(crate) struct Unprotected {
    containers: HashSet<String>,
    gauge: Gauge<u64, AtomicU64>,
}

impl Unprotected {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            containers: HashSet::new(),
            gauge: metrics.unprotected.clone(),
        }
    }

    /// This one runs without its rules.
    pub(crate) fn add(&mut self, container: &str) {
        self.containers.insert(container.to_owned());
        self.told();
    }

    /// This one has its rules, needs none, or is gone.
    pub(crate) fn remove(&mut self, container: &str) {
        self.containers.remove(container);
        self.told();
    }

    /// There are no others than these.
    pub(crate) fn keep(&mut self, known: &HashSet<String>) {
        self.containers.retain(|one| known.contains(one));
        self.told();
    }

    fn told(&self) {
        self.gauge.set(self.containers.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_for_as_long_as_it_runs_without() {
        let metrics = Arc::new(Metrics::default());
        let mut unprotected = Unprotected::new(&metrics);
        let count = || metrics.unprotected.get();
        unprotected.add("a");
        unprotected.add("a");
        unprotected.add("b");
        assert_eq!(count(), 2);
        unprotected.remove("a");
        unprotected.remove("never seen");
        assert_eq!(count(), 1);
        unprotected.add("c");
        unprotected.keep(&HashSet::from(["c".to_owned()]));
        assert_eq!(count(), 1);
        unprotected.remove("c");
        assert_eq!(count(), 0);
    }
}
