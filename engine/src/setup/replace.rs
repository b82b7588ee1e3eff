//! Other programs in the place of those that are loaded, without an instant in which
//! nothing refuses: the new ones are attached and proven beside the old ones, know
//! what these know, and only then the old ones end.

use std::collections::{HashMap, HashSet};

use plugin_common::{CONFIG_TRANSIENT, Config, Container};

use super::{Loaded, Options, Setup, SetupError, arm};
use crate::{
    bind::rebind,
    cgroup::Hierarchy,
    kernel::{Capacity, Maps, Older, PinError, PinState, Pins, Programs, Tags},
    lock::Lock,
    record::Record,
    records::Records,
};

impl Setup {
    /// Replaces what is pinned. Where that fails it stays as it is.
    pub(super) fn replace(
        &self,
        hierarchy: &Hierarchy,
        before: PinState,
        options: &Options<'_>,
    ) -> Result<Loaded, SetupError> {
        let others = Others::open(&self.pins, before)?;
        let capacity = others.capacity()?;
        let capacity = Capacity {
            containers: options.containers.unwrap_or(capacity.containers),
            rules: options.rules.unwrap_or(capacity.rules),
        };
        // Nobody waits for this but another `load`: it takes a second or two.
        let mut programs = Programs::load_beside(capacity, Some(&Tags::of(&self.pins)?))?;
        let armed = arm(&mut programs, hierarchy, options.choice)?;

        let _lock = Lock::acquire(&self.run_dir)?;
        let now = self.pins.state()?;
        if !is_same(before, now) {
            return Err(SetupError::Changed);
        }
        let next = self.pins.next();
        let made = others
            .hand_over(&mut programs, hierarchy, &self.records())
            .and_then(|containers| {
                next.remove()?;
                next.prepare()?;
                let flags = armed.config.flags | transient(now, options);
                let config = Config {
                    flags,
                    ..armed.config
                };
                next.pin(&mut programs, armed.attached, config)?;
                Ok(containers)
            });
        let containers = match made {
            Ok(containers) => containers,
            Err(error) => {
                // Closed: those before go on.
                remove(&next);
                return Err(error);
            }
        };
        let retired = self.pins.swap().inspect_err(|_| remove(&next))?;
        // From here the new ones hold alone, and what fails is no reason to go back.
        if let Err(error) = others.retire(&retired, programs.maps_mut(), options.retiring) {
            log::warn!("{error}");
        }
        remove(&retired);
        Ok(Loaded::Replaced {
            mechanism: armed.mechanism,
            seen: armed.seen,
            containers,
        })
    }
}

fn remove(pins: &Pins) {
    // The next `load` tries again.
    if let Err(error) = pins.remove() {
        log::warn!("{error}");
    }
}

/// Whoever asks for programs to stay has the last word.
fn transient(state: PinState, options: &Options<'_>) -> u32 {
    match state {
        PinState::Loaded(config) if options.transient => config.flags & CONFIG_TRANSIENT,
        _ => 0,
    }
}

/// Levels come and go meanwhile.
fn is_same(before: PinState, now: PinState) -> bool {
    match (before, now) {
        (PinState::Loaded(before), PinState::Loaded(now)) => before.mechanism == now.mechanism,
        (before, now) => before == now,
    }
}

/// The maps that are pinned.
enum Others {
    /// Of this version: copied as they are.
    Same(Box<Maps>),
    /// Of an older one: what it bound, from which and from the records all is made
    /// anew.
    Older(Box<Older>),
}

impl Others {
    fn open(pins: &Pins, state: PinState) -> Result<Self, PinError> {
        match state {
            PinState::Foreign(_) => Ok(Self::Older(Box::new(Older::open(pins)?))),
            _ => Ok(Self::Same(Box::new(pins.open()?))),
        }
    }

    fn capacity(&self) -> Result<Capacity, PinError> {
        Ok(match self {
            Self::Same(maps) => maps.capacity()?,
            Self::Older(maps) => maps.capacity()?,
        })
    }

    /// Gives the new programs what these refuse by. Returns how many containers.
    fn hand_over(
        &self,
        programs: &mut Programs,
        hierarchy: &Hierarchy,
        records: &Records,
    ) -> Result<usize, SetupError> {
        match self {
            Self::Same(maps) => {
                let taken = programs.maps_mut().take_over(maps);
                Ok(taken.map_err(PinError::from)?)
            }
            Self::Older(maps) => {
                let bound = maps.containers().map_err(PinError::from)?;
                let carried = programs.carried().map_err(SetupError::Carried)?;
                make_anew(programs.maps_mut(), hierarchy, records, &bound, &carried)
            }
        }
    }

    /// Ends the old programs, and keeps what they have counted and told.
    fn retire(self, pins: &Pins, to: &mut Maps, retiring: &dyn Fn(&Pins)) -> Result<(), PinError> {
        pins.remove_links()?;
        // Counts of another version mean what they mean there.
        if let Self::Same(maps) = self {
            to.add_counts(&maps)?;
            retiring(pins);
        }
        Ok(())
    }
}

/// Binds what an older version bound, by the records.
fn make_anew(
    maps: &mut Maps,
    hierarchy: &Hierarchy,
    records: &Records,
    bound: &[(u64, Container)],
    carried: &HashSet<u64>,
) -> Result<usize, SetupError> {
    records.adopt();
    let records = records.all().into_iter();
    let records: HashMap<u64, Record> = records.map(|record| (record.cgroup, record)).collect();
    let mut containers = 0;
    for (cgroup, before) in bound {
        if !hierarchy.is_alive(*cgroup) && !carried.contains(cgroup) {
            continue;
        }
        // Closed: the old programs know its rules, and nobody else does.
        let record = records.get(cgroup);
        let record = record.ok_or(SetupError::NoRecord(*cgroup))?;
        rebind(maps, hierarchy, record, before)?;
        containers += 1;
    }
    Ok(containers)
}
