//! From the ring buffer to the journal.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use execblock::{
    bind::Binder,
    clock,
    kernel::{Events, MapError, Maps, PinError, Pins},
};
use plugin_common::{EVENTS_WINDOW, Flow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Journal, JournalError, Report, names::Names};

/// How often lost events are looked for while events come: a container whose events
/// are held back sends the next one when its window is over.
const LOSSES: Duration = Duration::from_nanos(EVENTS_WINDOW);
/// How often it is looked whether the programs were loaded anew, while none come.
const PINS: Duration = Duration::from_secs(10);
/// After this time it is tried again to read events.
const AGAIN: Duration = Duration::from_secs(5);

/// Why nobody reads the ring buffer any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// No pins, or unusable ones.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// They were unloaded and loaded anew.
    #[error("other programs are loaded than before")]
    Replaced,
    /// poll(2) on the ring buffer.
    #[error("waiting for events: {0}")]
    Wait(std::io::Error),
}

/// The reader of the ring buffer.
#[derive(Debug)]
pub(crate) struct Drain {
    ring: Events,
    maps: Maps,
    names: Names,
    journal: Journal,
    pins: PathBuf,
    /// Lost events that were told, by cgroup.
    told: HashMap<u64, u64>,
    /// What the programs have counted of them in all; `None` before it was looked.
    lost: Option<u64>,
}

impl Drain {
    /// Waits until nobody else reads it.
    fn wait(binder: &Binder, bytes: u64) -> Result<Self, DrainError> {
        let journal = Journal::wait(binder.run_dir(), bytes)?;
        Self::new(binder, binder.pins(), journal)
    }

    fn new(binder: &Binder, pins: &Pins, journal: Journal) -> Result<Self, DrainError> {
        // Whether there is anything to read, by the reason that says what to do.
        drop(pins.open()?);
        // Before the maps: if others are loaded in between, this one is not theirs, and
        // that is seen.
        let ring = Events::open(pins.dir())?;
        let told = journal.told();
        Ok(Self {
            ring,
            maps: pins.open()?,
            names: Names::new(binder.records()),
            journal,
            pins: pins.dir().to_owned(),
            told,
            lost: None,
        })
    }

    /// Takes events as they come, until it can't go on.
    fn run(mut self) -> DrainError {
        // What was lost before is told at once.
        let mut look = Some(Instant::now());
        // A container whose events are held back sends one when its window is over:
        // so long after the last event more may be lost without a sign.
        let mut quiet = Instant::now();
        loop {
            if self.take() {
                quiet = Instant::now() + LOSSES;
                look.get_or_insert(quiet);
            }
            let now = Instant::now();
            if look.is_some_and(|when| when <= now) {
                look = Some(quiet).filter(|quiet| *quiet > now);
                if let Err(error) = self.losses() {
                    return error;
                }
            }
            let until = look.map(|when| when.saturating_duration_since(Instant::now()));
            match self.ready(until.unwrap_or(PINS)) {
                Err(error) => return DrainError::Wait(error),
                Ok(false) if until.is_none() => match self.ring.is_pinned(&self.pins) {
                    Ok(true) => {}
                    Ok(false) => return DrainError::Replaced,
                    Err(error) => return error.into(),
                },
                Ok(_) => {}
            }
        }
    }

    /// Takes what is there; whether there was anything. What can't be written is
    /// lost, and said in the log; the kernel's counters have it.
    fn take(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.ring.take() {
            any = true;
            let named = self.names.of(event.cgroup, event.rule);
            let time = clock::time_of_day(event.time);
            let report = Report::of_event(&event, named, time);
            if let Err(error) = self.journal.write(&report) {
                log::error!(
                    "{error}: {}",
                    anstream::adapter::strip_str(&super::line(&report))
                );
            }
        }
        any
    }

    /// Tells what was lost since it was told last.
    fn losses(&mut self) -> Result<(), DrainError> {
        let lost = Some(self.maps.stats()?.events_lost);
        if lost == self.lost {
            return Ok(());
        }
        self.lost = lost;
        let flows = self.maps.flows()?;
        let before = self.told.clone();
        let result = self.tell(&flows);
        // Also of those that were told before one could not be.
        if self.told != before {
            self.journal.set_told(&self.told)?;
        }
        Ok(result?)
    }

    fn tell(&mut self, flows: &[(u64, Flow)]) -> Result<(), JournalError> {
        let known: HashSet<u64> = flows.iter().map(|(cgroup, _)| *cgroup).collect();
        self.told.retain(|cgroup, _| known.contains(cgroup));
        for (cgroup, flow) in flows {
            let told = self.told.get(cgroup).copied().unwrap_or(0);
            // Less than before: it was forgotten and bound anew.
            let new = flow.lost.checked_sub(told).unwrap_or(flow.lost);
            if new != 0 {
                let owner = self.names.owner(*cgroup);
                let now = SystemTime::now();
                let report = Report::of_loss(*cgroup, owner, new, flow.lost, now);
                self.journal.write(&report)?;
            }
            if flow.lost != 0 {
                self.told.insert(*cgroup, flow.lost);
            } else {
                self.told.remove(cgroup);
            }
        }
        Ok(())
    }

    /// Waits for events; `false` where none came in that time.
    fn ready(&self, time: Duration) -> std::io::Result<bool> {
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut ready = [PollFd::new(&self.ring, PollFlags::IN)];
        match poll(&mut ready, Some(&time)) {
            Ok(ready) => Ok(ready != 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes events as soon and as long as nobody else does, for good: what goes wrong
/// is said once, and tried again.
pub(crate) fn drain(binder: &Binder, bytes: u64) -> ! {
    let mut said = String::new();
    loop {
        let error = match Drain::wait(binder, bytes) {
            Ok(drain) => drain.run(),
            Err(error) => error,
        };
        let problem = error.to_string();
        if problem != said && !matches!(error, DrainError::Replaced) {
            // Open: the kernel goes on to refuse, and counts what it can't tell.
            log::error!("events are not taken, trying again: {problem}");
        }
        said = problem;
        if !matches!(error, DrainError::Replaced) {
            thread::sleep(AGAIN);
        }
    }
}

/// Takes what is there, unless another process reads it anyway.
pub(crate) fn drain_once(binder: &Binder, bytes: u64) -> Result<(), DrainError> {
    drain_pins(binder, binder.pins(), bytes)
}

/// As [`drain_once`], of the programs behind other pins.
pub(super) fn drain_pins(binder: &Binder, pins: &Pins, bytes: u64) -> Result<(), DrainError> {
    let Some(journal) = Journal::unless_held(binder.run_dir(), bytes)? else {
        return Ok(());
    };
    let mut drain = Drain::new(binder, pins, journal)?;
    drain.take();
    drain.losses()
}
