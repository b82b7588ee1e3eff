//! What was refused: from the kernel's ring buffer to the journal, and from the
//! journal to whoever reads it.
//!
//! The ring buffer has one reader at a time, whoever holds the journal's lock: the
//! daemon, or else one of the `execblock events`. All others read the journal.

mod drain;
mod journal;
mod log;
mod names;
mod report;
mod text;

use drain::drain_pins;
pub(crate) use drain::{DrainError, drain, drain_once};
pub(crate) use journal::{BYTES_DEFAULT, Journal, JournalError, Tail};
pub(crate) use log::start;
#[cfg(feature = "kubernetes")]
pub(crate) use report::{Exec, Session, Verdict};
pub(crate) use report::{Report, What};
pub(crate) use text::line;

use execblock::{bind::Binder, kernel::Pins, node::Node};

use crate::settings::Settings;

/// Most bytes of the journal, as the daemon has it.
pub(crate) fn journal_bytes() -> u64 {
    match Settings::read(&Node::default()) {
        Ok(settings) => settings.journal_bytes,
        // The daemon says what is wrong with it.
        Err(error) => {
            ::log::debug!("the journal is as long as usual: {error}");
            BYTES_DEFAULT
        }
    }
}

/// Takes what is there, before what it is about is forgotten. Open: what can't be
/// kept is in the kernel's counters.
pub(crate) fn keep(binder: &Binder) {
    keep_of(binder, binder.pins());
}

/// Takes what programs have told that were replaced, unless another process reads
/// their ring buffer and takes it. Open, as [`keep`].
pub(crate) fn keep_those_of(pins: &Pins) {
    match Binder::new() {
        Ok(binder) => keep_of(&binder, pins),
        Err(error) => ::log::debug!("events are not kept: {error}"),
    }
}

fn keep_of(binder: &Binder, pins: &Pins) {
    if let Err(error) = drain_pins(binder, pins, journal_bytes()) {
        ::log::debug!("events are not kept: {error}");
    }
}
