//! `cargo xtask bench cost`: instructions that an exec costs, counted in machines whose clock
//! counts them, and held against those that are committed.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::figures;

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

impl Figure {
    /// Whether both are of the same situation under the same mechanism.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.mechanism, &self.what) == (&other.mechanism, &other.what)
    }
}

/// Figures of mechanisms, with the kernels that they are of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Release of the kernel by mechanism; figures of another can't be compared.
    pub(crate) kernels: BTreeMap<String, String>,
    pub(crate) figures: Vec<Figure>,
}

/// Boots a machine for each mechanism; measures `few` situations or all.
pub(crate) fn measure(wanted: &[String], few: bool, jobs: usize) -> Result<Figures> {
    let group = if few { "cost-few" } else { "cost" };
    let mut found = Figures::default();
    for line in figures::by_mechanism(wanted, group, jobs)? {
        match line {
            Line::Kernel { mechanism, kernel } => {
                found.kernels.insert(mechanism, kernel);
            }
            Line::Figure(figure) => found.figures.push(figure),
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
        let release = now.kernels.get(&figure.mechanism);
        let comparable = before.kernels.get(&figure.mechanism) == release;
        let Some(known) = before
            .figures
            .iter()
            .find(|other| other.is_of(figure) && comparable)
        else {
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
