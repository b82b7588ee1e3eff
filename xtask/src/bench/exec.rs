//! What an exec takes by a clock: this machine's, or that of emulated ones.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{mechanisms_or_all, native};
use crate::vm::clock;

/// A situation, and microseconds of an exec, one for each round.
type Situation = (String, Vec<f64>);

/// The values that one, five and nine tenths are not above.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| {
            let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(index).copied().unwrap_or_default()
        };
        let (low, median, high) = (at(10), at(50), at(90));
        Self { low, median, high }
    }

    fn json(self) -> Value {
        json!({ "low": self.low, "median": self.median, "high": self.high })
    }

    fn text(self, digits: usize) -> String {
        let Self { low, median, high } = self;
        format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}

/// On this machine.
pub(super) fn here(rounds: usize, execs: usize) -> Result<Value> {
    let mut found = native::exec(rounds, execs)?;
    let rows = found["rows"].as_array().into_iter().flatten();
    let situations: Result<Vec<Situation>> = rows
        .map(|row| {
            let name = row["name"].as_str().context("a row without a name")?;
            Ok((name.to_owned(), serde_json::from_value(row["us"].clone())?))
        })
        .collect();
    header();
    found["rows"] = table("signal", &situations?).into();
    Ok(found)
}

/// On emulated machines, whose clocks count instructions.
pub(super) fn emulated(mechanisms: &[String], jobs: usize) -> Result<Value> {
    let mechanisms = mechanisms_or_all(mechanisms);
    let rows = clock::measure(&mechanisms, jobs)?;
    header();
    let mut all = Vec::new();
    for mechanism in &mechanisms {
        let of = rows.iter().filter(|row| row.mechanism == *mechanism);
        let situations = of.map(|row| (row.name.clone(), row.us.clone()));
        all.extend(table(mechanism, &situations.collect::<Vec<_>>()));
    }
    Ok(json!({ "rows": all }))
}

fn header() {
    println!(
        "{:10} {:24} {:>26} {:>26}",
        "", "median (8 of 10 lie in)", "µs an exec", "of not loaded"
    );
}

/// Prints a line for each, and returns it.
fn table(mechanism: &str, situations: &[Situation]) -> Vec<Value> {
    let base = situations.first().map_or(&[][..], |(_, times)| times);
    let row = |(name, times): &Situation| {
        let parts = times.iter().zip(base).map(|(time, base)| time / base);
        let (us, ratio) = (Spread::of(times.clone()), Spread::of(parts.collect()));
        println!(
            "{mechanism:10} {name:24} {:>26} {:>26}",
            us.text(0),
            ratio.text(3)
        );
        json!({
            "mechanism": mechanism, "name": name, "us": us.json(), "ratio": ratio.json(),
            "rounds": times.len(),
        })
    };
    situations.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_values_that_were_seen() {
        let spread = Spread::of((1..=10).map(f64::from).rev().collect());
        let expected = Spread {
            low: 1.0,
            median: 5.0,
            high: 9.0,
        };
        assert_eq!(spread, expected);
    }

    #[test]
    fn what_is_compared_are_times_of_one_round() {
        // A machine that is slower in its second round, by as much in both.
        let rows = table(
            "lsm",
            &[
                ("not loaded".to_owned(), vec![100.0, 200.0]),
                ("bound".to_owned(), vec![101.0, 202.0]),
            ],
        );
        assert_eq!(rows[1]["ratio"]["low"], 1.01);
        assert_eq!(rows[1]["ratio"]["high"], 1.01);
    }
}
