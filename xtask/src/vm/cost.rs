//! `cargo xtask bench cost`: instructions that an exec costs, counted in machines whose clock
//! counts them, and held against those that are committed.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Cache, Pair, Payload, Selection, kernel, userland};

/// Kernel, userland, and the mechanisms that are measured there; the guest's program knows the
/// same.
const MACHINES: [(&str, &str, &[&str]); 3] = [
    ("6.12", "trixie", &["lsm"]),
    ("6.12-nolsm", "trixie", &["fmod_ret", "signal"]),
    (kernel::OVERRIDE, "trixie", &["kprobe"]),
];
/// What a guest's lines of figures begin with.
pub(super) const MARK: &str = "cost ";

/// What one situation costs under a mechanism.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) mechanism: String,
    /// The situation.
    pub(crate) what: String,
    /// Instructions of all programs for one exec, its fork and its mappings with it.
    pub(crate) exec: u64,
    /// Instructions of all that the machine does for it, from the fork to the end.
    #[serde(default)]
    pub(crate) whole: u64,
    /// Instructions of one run, by program.
    pub(crate) programs: BTreeMap<String, u64>,
}

/// Figures of mechanisms, with the kernels that they are of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Release of the kernel by mechanism; figures of another can't be compared.
    pub(crate) kernels: BTreeMap<String, String>,
    pub(crate) figures: Vec<Figure>,
}

pub(crate) fn mechanisms() -> impl Iterator<Item = &'static str> {
    let machines = MACHINES.into_iter();
    machines.flat_map(|(_, _, mechanisms)| mechanisms.iter().copied())
}

/// Boots a machine for each mechanism; measures `few` situations or all.
pub(crate) fn measure(wanted: &[String], few: bool, jobs: usize) -> Result<Figures> {
    super::check_tools()?;
    let cache = Cache::open()?;
    let payload = Payload::build(&cache)?;
    let cases = if few { "cost-few" } else { "cost" };
    let filter: Vec<String> = wanted.iter().map(|one| format!("{cases}/{one}")).collect();
    let selection = Selection::of_cost(jobs, &filter.join(","));
    let mut ready = VecDeque::new();
    for (kernel, userland, mechanisms) in MACHINES {
        if !mechanisms
            .iter()
            .any(|one| wanted.iter().any(|wanted| wanted == one))
        {
            continue;
        }
        let pair = Pair {
            kernel: kernel::by_name(kernel)?,
            userland: userland::by_name(userland)?,
        };
        let _lock = cache.lock()?;
        match super::prepare(&cache, pair)? {
            Ok(parts) => ready.push_back((pair, parts)),
            Err(reason) => bail!("{} can't be booted: {reason}", pair.label()),
        }
    }
    let mut found = Figures::default();
    for (_, outcome) in super::boot_all(&cache, &payload, &selection, ready) {
        if let Some((name, reason)) = outcome.failures.first() {
            bail!("{name}: {reason}");
        }
        for line in &outcome.figures {
            match serde_json::from_str(line).with_context(|| line.clone())? {
                Line::Kernel { mechanism, kernel } => {
                    found.kernels.insert(mechanism, kernel);
                }
                Line::Figure(figure) => found.figures.push(figure),
            }
        }
    }
    let missing = wanted.iter().find(|one| !found.kernels.contains_key(*one));
    if let Some(missing) = missing {
        bail!("{missing} was not measured");
    }
    Ok(found)
}

/// What a guest says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Kernel { mechanism: String, kernel: String },
    Figure(Figure),
}

/// What costs more than before by more than two in a hundred, and what can't be compared.
pub(crate) fn compare(before: &Figures, now: &Figures) -> (Vec<String>, Vec<String>) {
    let (mut worse, mut unknown) = (Vec::new(), Vec::new());
    for (mechanism, release) in &now.kernels {
        if before.kernels.get(mechanism) != Some(release) {
            let known = before.kernels.get(mechanism).map_or("none", |known| known);
            unknown.push(format!(
                "{mechanism}: measured on {release}, the committed figures are of {known}"
            ));
        }
    }
    for figure in &now.figures {
        let is =
            |other: &&Figure| (&other.mechanism, &other.what) == (&figure.mechanism, &figure.what);
        let release = now.kernels.get(&figure.mechanism);
        let comparable = before.kernels.get(&figure.mechanism) == release;
        let Some(known) = before.figures.iter().find(is).filter(|_| comparable) else {
            continue;
        };
        if figure.exec * 100 > known.exec * 102 {
            worse.push(format!(
                "{}, {}: {} instructions an exec, {} before",
                figure.mechanism, figure.what, figure.exec, known.exec
            ));
        }
    }
    (worse, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(kernel: &str, exec: u64) -> Figures {
        Figures {
            kernels: [("lsm".to_owned(), kernel.to_owned())].into(),
            figures: vec![Figure {
                mechanism: "lsm".to_owned(),
                what: "host".to_owned(),
                exec,
                whole: 0,
                programs: BTreeMap::new(),
            }],
        }
    }

    #[test]
    fn more_than_two_in_a_hundred_is_worse() {
        let before = figures("6.12.1", 1000);
        for (now, expected) in [(900, 0), (1020, 0), (1021, 1)] {
            let (worse, unknown) = compare(&before, &figures("6.12.1", now));
            assert_eq!((worse.len(), unknown.len()), (expected, 0), "{now}");
        }
    }

    #[test]
    fn another_kernel_is_not_compared_and_that_is_said() {
        let (worse, unknown) = compare(&figures("6.12.1", 1000), &figures("6.12.2", 9000));
        assert_eq!(worse, [""; 0]);
        assert!(unknown[0].contains("6.12.2"), "{unknown:?}");
    }
}
