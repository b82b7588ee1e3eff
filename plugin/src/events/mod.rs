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

use execblock::{bind::Binder, kernel::Pins};

/// Takes what is there, before what it is about is forgotten. Open: what can't be
/// kept is in the kernel's counters.
pub(crate) fn keep(binder: &Binder) {
    if let Err(error) = drain_once(binder, BYTES_DEFAULT) {
        ::log::debug!("events are not kept: {error}");
    }
}

/// Takes what programs have told that were replaced. Open, as [`keep`].
pub(crate) fn keep_those_of(pins: &Pins) {
    let kept = Binder::new().map(|binder| drain_pins(&binder, pins, BYTES_DEFAULT));
    match kept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => ::log::debug!("events are not kept: {error}"),
        Err(error) => ::log::debug!("events are not kept: {error}"),
    }
}
