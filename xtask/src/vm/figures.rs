//! Boots machines whose clock counts instructions, and takes down the figures that their cases
//! tell.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use super::{Cache, Pair, Payload, Selection, kernel, userland};

/// What a guest's lines of figures begin with; the guest's program knows the same.
pub(super) const MARK: &str = "figure ";

/// Kernel and userland of a machine, and the mechanisms that are measured there.
pub(super) type Measured = (&'static str, &'static str, &'static [&'static str]);

/// One for each mechanism; the guest's program knows the same.
const MACHINES: [Measured; 3] = [
    ("6.12", "trixie", &["lsm"]),
    ("6.12-nolsm", "trixie", &["fmod_ret", "signal"]),
    (kernel::OVERRIDE, "trixie", &["kprobe"]),
];

pub(crate) fn mechanisms() -> impl Iterator<Item = &'static str> {
    let machines = MACHINES.into_iter();
    machines.flat_map(|(_, _, mechanisms)| mechanisms.iter().copied())
}

/// What the cases `GROUP/MECHANISM` of the wanted mechanisms tell.
pub(super) fn by_mechanism<T: DeserializeOwned>(
    wanted: &[String],
    group: &str,
    jobs: usize,
) -> Result<Vec<T>> {
    let has = |(_, _, mechanisms): &Measured| {
        let mut mechanisms = mechanisms.iter();
        mechanisms.any(|one| wanted.iter().any(|wanted| wanted == one))
    };
    let machines: Vec<Measured> = MACHINES.into_iter().filter(has).collect();
    let cases: Vec<String> = wanted.iter().map(|one| format!("{group}/{one}")).collect();
    of(&machines, &cases.join(","), jobs)
}

/// What these cases tell on these machines. A case that fails is an error, as is a machine that
/// can't be booted: figures are all there, or none are.
pub(super) fn of<T: DeserializeOwned>(
    machines: &[Measured],
    cases: &str,
    jobs: usize,
) -> Result<Vec<T>> {
    super::check_tools()?;
    let cache = Cache::open()?;
    let payload = Payload::build(&cache)?;
    let mut ready = VecDeque::new();
    for (kernel, userland, _) in machines {
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
    let mut found = Vec::new();
    let selection = Selection::of_cost(jobs, cases);
    for (_, outcome) in super::boot_all(&cache, &payload, &selection, ready) {
        if let Some((name, reason)) = outcome.failures.first() {
            bail!("{name}: {reason}");
        }
        for line in &outcome.figures {
            found.push(serde_json::from_str(line).with_context(|| line.clone())?);
        }
    }
    if found.is_empty() {
        bail!("nothing was measured: is there a case {cases}?");
    }
    Ok(found)
}
