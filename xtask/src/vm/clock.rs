//! `cargo xtask bench clock`: what an exec takes by the clock of machines whose clock counts
//! instructions, without our programs and with them.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::figures;

/// A situation under a mechanism; of each mechanism the first has nothing loaded.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) mechanism: String,
    pub(crate) name: String,
    /// Microseconds of an exec, each a thousand instructions; one for each round.
    pub(crate) us: Vec<f64>,
}

/// Boots a machine for each mechanism.
pub(crate) fn measure(wanted: &[String], jobs: usize) -> Result<Vec<Row>> {
    figures::by_mechanism(wanted, "clock", jobs)
}
