//! Durations of one kind.

use std::time::Duration;

use serde::Serialize;

/// In microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

/// The values that half and that 99 of 100 are not above, and the greatest.
pub(crate) fn summary(mut times: Vec<Duration>) -> Summary {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e6
    };
    Summary {
        median: at(50),
        p99: at(99),
        most: at(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let all = summary((1..=200).map(Duration::from_micros).collect());
        assert_eq!(
            format!("{all:?}"),
            "Summary { median: 100.0, p99: 198.0, most: 200.0 }"
        );
        let one = summary(vec![Duration::from_micros(7)]);
        assert_eq!(
            format!("{one:?}"),
            "Summary { median: 7.0, p99: 7.0, most: 7.0 }"
        );
    }
}
