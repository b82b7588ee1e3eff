//! The daemon's part: it takes the events out of the kernel, and logs what comes
//! into the journal, whoever wrote it there.

use std::{convert::Infallible, io, thread, time::Duration};

use execblock::bind::Binder;
use rustix::event::{PollFd, PollFlags, poll};

use super::{JournalError, Report, Tail, What};

/// Starts both. Events that come before this returns are logged too; `hear` is
/// called with each after that, and must not wait. Open where this fails: the
/// daemon binds containers all the same.
pub(crate) fn start(
    binder: &Binder,
    bytes: u64,
    hear: impl Fn(&Report) + Send + 'static,
) -> Result<(), StartError> {
    let run_dir = binder.run_dir().to_owned();
    let binder = binder.clone();
    let drain = move || super::drain(&binder, bytes);
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let tail = Tail::from_now(&run_dir);
    named("drain").spawn(drain)?;
    let mut tail = tail?;
    let follow = move || {
        loop {
            let Err(error) = follow(&mut tail, &hear);
            // Open: what comes meanwhile is in the journal, and not in the log.
            log::error!("refusals are not logged, trying again: {error}");
            thread::sleep(AGAIN);
            match Tail::from_now(&run_dir) {
                Ok(new) => tail = new,
                Err(error) => log::debug!("{error}"),
            }
        }
    };
    named("refusals").spawn(follow)?;
    Ok(())
}

/// After this time it is tried again to follow the journal.
const AGAIN: Duration = Duration::from_secs(5);

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A thread.
    #[error("starting a thread: {0}")]
    Thread(#[from] io::Error),
}

fn follow(tail: &mut Tail, hear: &impl Fn(&Report)) -> Result<Infallible, StartError> {
    loop {
        for line in tail.lines()? {
            // A line that was cut short by the death of whoever wrote it is passed
            // over; the kernel has counted what it told.
            if let Ok(report) = serde_json::from_str::<Report>(&line) {
                log(&report);
                hear(&report);
            }
        }
        let mut ready = [PollFd::from_borrowed_fd(tail.watch(), PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ready, None)).map_err(io::Error::from)?;
        tail.heard();
    }
}

fn log(report: &Report) {
    let line = super::text::sentence(report);
    let line = anstream::adapter::strip_str(&line);
    match report.what {
        What::Exec(_) => log::info!(refusal:serde = report; "{line}"),
        What::Moved(_) | What::Lost { .. } => log::warn!(refusal:serde = report; "{line}"),
    }
}
