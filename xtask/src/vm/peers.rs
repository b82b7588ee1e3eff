//! `cargo xtask bench peers`: what others cost that refuse an exec, beside execblock on the
//! same machine.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Cache, Pair, Payload, Selection, cost::MARK, kernel, userland};

const USERLAND: &str = "trixie-bcc";
const CASES: &str = "peers/";

/// What one of them costs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    /// Until it refuses, by the guest's clock: one nanosecond an instruction, and waiting.
    pub(crate) start_ns: u64,
    /// Of the process that has to live for it; `None` where none has to.
    pub(crate) resident_kib: Option<u64>,
    /// Of one exec, by situation.
    pub(crate) exec: BTreeMap<String, u64>,
}

/// Boots the machine that has them.
pub(crate) fn measure() -> Result<Vec<Peer>> {
    super::check_tools()?;
    let cache = Cache::open()?;
    let payload = Payload::build(&cache)?;
    let pair = Pair {
        kernel: kernel::by_name(kernel::OVERRIDE)?,
        userland: userland::by_name(USERLAND)?,
    };
    let parts = {
        let _lock = cache.lock()?;
        super::prepare(&cache, pair)?
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(reason) => bail!("{} can't be booted: {reason}", pair.label()),
    };
    let selection = Selection::of_cost(1, CASES);
    let ready = VecDeque::from([(pair, parts)]);
    let mut peers = Vec::new();
    for (_, outcome) in super::boot_all(&cache, &payload, &selection, ready) {
        if let Some((name, reason)) = outcome.failures.first() {
            bail!("{name}: {reason}");
        }
        for line in &outcome.figures {
            peers.push(serde_json::from_str(line).with_context(|| format!("{MARK}{line}"))?);
        }
    }
    if peers.is_empty() {
        bail!("nothing was measured: is there a case {CASES}?");
    }
    Ok(peers)
}
