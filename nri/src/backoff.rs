//! How long to wait before the next attempt to connect.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Delays between attempts to connect: they double from `first` up to `most`,
/// and begin anew after a connection on which the plugin was synchronized.
///
/// Each delay is shortened at random by up to a half, so that the plugins of a
/// node (and of many) don't all come back at the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay.
    pub first: Duration,
    /// The longest delay.
    pub most: Duration,
}

impl Default for Backoff {
    /// From 100 ms to 10 s: a container that starts meanwhile is not seen by
    /// the plugin until it is synchronized.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The delay after `failures` failures in a row, the first of which is 0,
    /// shortened by `random` of 2^32 of its half.
    fn delay(self, failures: u32, random: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.most);
        let half = whole / 2;
        half + half.mul_f64(1.0 - f64::from(random) / (f64::from(u32::MAX) + 1.0))
    }
}

/// Delays in a row.
#[derive(Debug)]
pub(crate) struct Delays {
    backoff: Backoff,
    failures: u32,
}

impl Delays {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            failures: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next(&mut self) -> Duration {
        // A new RandomState has new keys each time, which is all the randomness
        // that is needed here.
        #[expect(clippy::cast_possible_truncation, reason = "its lower half will do")]
        let random = RandomState::new().hash_one(self.failures) as u32;
        let delay = self.backoff.delay(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most_and_never_less_than_half() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            most: Duration::from_secs(1),
        };
        let whole: Vec<_> = (0..6).map(|n| backoff.delay(n, 0).as_millis()).collect();
        assert_eq!(whole, [100, 200, 400, 800, 1000, 1000]);
        for failures in [0, 3, 31, 32, u32::MAX] {
            let least = backoff.delay(failures, u32::MAX);
            let most = backoff.delay(failures, 0);
            assert!(
                least >= most / 2 && least < most,
                "{failures}: {least:?} of {most:?}"
            );
        }
    }

    #[test]
    fn begins_anew_after_a_reset() {
        let mut delays = Delays::new(Backoff::default());
        for _ in 0..20 {
            delays.next();
        }
        assert!(delays.next() >= Backoff::default().most / 2);
        delays.reset();
        assert!(delays.next() <= Backoff::default().first);
    }
}
