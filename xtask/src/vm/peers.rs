//! `cargo xtask bench peers`: what others cost that refuse an exec, beside execblock on the
//! same machine.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{figures, kernel};

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
    figures::of(
        &[(kernel::OVERRIDE, "trixie-bcc", &["kprobe"])],
        "peers/",
        1,
    )
}
