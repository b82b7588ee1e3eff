//! Which refusals are posted: the first by a rule in a container, and no more in a
//! time than an API server can be asked to store.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

/// Most refusals that are remembered; then the oldest go.
const REMEMBERED_MAX: usize = 4096;
/// So many Events at once,
const BURST: u32 = 25;
/// and then one in each of these.
const REFILL: Duration = Duration::from_secs(1);

/// What is posted once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) container: String,
    pub(super) rule: String,
}

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It is posted.
    New,
    /// It was posted before.
    Known,
    /// There were too many before it. It is not remembered: the next one may be
    /// posted in its place.
    TooMany,
}

/// What was posted, and how much of late.
#[derive(Debug, Default)]
pub(super) struct Gate {
    known: HashSet<Key>,
    /// The same, oldest first.
    order: VecDeque<Key>,
    bucket: Bucket,
}

impl Gate {
    pub(super) fn admit(&mut self, key: &Key, now: Instant) -> Admitted {
        if self.known.contains(key) {
            return Admitted::Known;
        }
        if !self.bucket.take(now) {
            return Admitted::TooMany;
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(key.clone());
        self.order.push_back(key.clone());
        Admitted::New
    }

    /// It was not posted after all: the next one is.
    pub(super) fn forget(&mut self, key: &Key) {
        if self.known.remove(key) {
            self.order.retain(|one| one != key);
        }
    }
}

/// A token bucket, told by the time at which it is full again.
#[derive(Debug, Default)]
struct Bucket {
    /// `None` as long as nothing was taken.
    full: Option<Instant>,
}

impl Bucket {
    /// Takes a token; whether there was one.
    fn take(&mut self, now: Instant) -> bool {
        let full = self.full.map_or(now, |full| full.max(now)) + REFILL;
        let there = full.duration_since(now) <= REFILL * BURST;
        if there {
            self.full = Some(full);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str, rule: &str) -> Key {
        Key {
            container: container.to_owned(),
            rule: rule.to_owned(),
        }
    }

    fn numbered(container: &str, rule: u32) -> Key {
        key(container, &rule.to_string())
    }

    #[test]
    fn each_rule_of_each_container_is_admitted_once() {
        let mut gate = Gate::default();
        let now = Instant::now();
        assert_eq!(gate.admit(&key("a", "id"), now), Admitted::New);
        assert_eq!(gate.admit(&key("a", "id"), now), Admitted::Known);
        assert_eq!(gate.admit(&key("a", "sh"), now), Admitted::New);
        assert_eq!(gate.admit(&key("b", "id"), now), Admitted::New);
        gate.forget(&key("a", "id"));
        gate.forget(&key("a", "id"));
        assert_eq!(gate.admit(&key("a", "id"), now), Admitted::New);
        assert_eq!(gate.admit(&key("a", "id"), now), Admitted::Known);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_go() {
        let mut gate = Gate::default();
        let begin = Instant::now();
        let mut now = begin;
        for rule in 0..=4096 {
            now += REFILL;
            assert_eq!(gate.admit(&numbered("a", rule), now), Admitted::New);
        }
        assert_eq!(
            (gate.known.len(), gate.order.len()),
            (REMEMBERED_MAX, REMEMBERED_MAX)
        );
        assert_eq!(gate.admit(&numbered("a", 1), now), Admitted::Known);
        assert_eq!(gate.admit(&numbered("a", 0), now), Admitted::New);
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_in_a_second() {
        let mut gate = Gate::default();
        let begin = Instant::now();
        for rule in 0..BURST {
            assert_eq!(gate.admit(&numbered("a", rule), begin), Admitted::New);
        }
        let late = key("a", "late");
        assert_eq!(gate.admit(&late, begin), Admitted::TooMany);
        let almost = begin + REFILL.saturating_sub(Duration::from_nanos(1));
        assert_eq!(gate.admit(&late, almost), Admitted::TooMany);
        // What was posted costs nothing.
        assert_eq!(gate.admit(&numbered("a", 0), almost), Admitted::Known);
        assert_eq!(gate.admit(&late, begin + REFILL), Admitted::New);
        assert_eq!(
            gate.admit(&numbered("b", 1), begin + REFILL),
            Admitted::TooMany
        );
        // Never more than a burst, however long nothing came.
        let later = begin + REFILL * 1000;
        for rule in 0..BURST {
            assert_eq!(gate.admit(&numbered("c", rule), later), Admitted::New);
        }
        assert_eq!(gate.admit(&numbered("d", 1), later), Admitted::TooMany);
    }
}
