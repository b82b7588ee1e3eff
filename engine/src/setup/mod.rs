//! Load and unload: from nothing to pins that hold by themselves, and back.

mod error;
mod replace;

use std::path::PathBuf;

use plugin_common::{CONFIG_DRIFT, CONFIG_TRANSIENT, Config};

pub use self::error::{SetupError, TryError};

use crate::{
    canary::{self, Seen},
    cgroup::Hierarchy,
    kernel::{
        Attached, Capacity, Mechanism, PinError, PinState, Pins, Programs, build, is_taken_over,
        tracefs,
    },
    lock::{Lock, RUN_DIR},
    records::Records,
    release::{PREEMPTED, is_since},
};

/// Which mechanism to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that works.
    #[default]
    Auto,
    /// This one or none.
    One(Mechanism),
}

/// What becomes of programs that are loaded already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// They stay, unless they are not usable: then nothing is done.
    #[default]
    Never,
    /// They are replaced where an older version loaded them.
    Outdated,
    /// They are replaced in any case.
    Always,
}

/// How to load.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The mechanism.
    pub choice: Choice,
    /// Containers that the maps hold; as many as before, or the usual number.
    pub containers: Option<u32>,
    /// Entries of the rules map; as above.
    pub rules: Option<u32>,
    /// Whether the last user unloads.
    pub transient: bool,
    /// What becomes of programs that are there.
    pub replace: Replace,
    /// Called with the pins of programs that were replaced, when they have ended and
    /// before their maps go.
    pub retiring: &'a dyn Fn(&Pins),
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            choice: Choice::default(),
            containers: None,
            rules: None,
            transient: false,
            replace: Replace::default(),
            retiring: &|_| {},
        }
    }
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("choice", &self.choice)
            .field("containers", &self.containers)
            .field("rules", &self.rules)
            .field("transient", &self.transient)
            .field("replace", &self.replace)
            .finish_non_exhaustive()
    }
}

/// What `load` found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It was loaded before, with this mechanism.
    Already(Mechanism),
    /// It is loaded now, with this mechanism.
    New(Mechanism, Seen),
    /// It took the place of programs that were loaded before.
    Replaced {
        /// The mechanism in force.
        mechanism: Mechanism,
        /// How it was seen to refuse.
        seen: Seen,
        /// Containers that were bound and are.
        containers: usize,
    },
}

impl Loaded {
    /// The mechanism in force.
    #[must_use]
    pub fn mechanism(self) -> Mechanism {
        match self {
            Self::Already(mechanism)
            | Self::New(mechanism, _)
            | Self::Replaced { mechanism, .. } => mechanism,
        }
    }
}

/// Attaches one mechanism and proves it; what does not work is detached.
///
/// # Errors
///
/// Why it can't be used.
pub fn attach(
    programs: &mut Programs,
    hierarchy: &Hierarchy,
    mechanism: Mechanism,
) -> Result<(Attached, Seen), TryError> {
    let attached = programs.attach(mechanism)?;
    let seen = canary::run(hierarchy, programs.maps_mut(), mechanism)?;
    Ok((attached, seen))
}

/// The lock of those who load and unload, beside that of all writers.
const LOAD: &str = "load.lock";

/// The usual places of pins, lock and records.
#[derive(Clone, Debug)]
pub struct Setup {
    pins: Pins,
    run_dir: PathBuf,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pins: Pins::default(),
            run_dir: PathBuf::from(RUN_DIR),
        }
    }
}

impl Setup {
    /// Loads, attaches, proves and pins, unless that was done before.
    ///
    /// # Errors
    ///
    /// [`SetupError::NothingWorks`] where no mechanism does; what was done by
    /// then is undone, and programs that are there stay.
    pub fn load(&self, options: &Options<'_>) -> Result<Loaded, SetupError> {
        let hierarchy = Hierarchy::find()?;
        // Whoever loads is alone; who binds waits only where there is nothing yet.
        let _alone = Lock::acquire_named(&self.run_dir, LOAD)?;
        let lock = Lock::acquire(&self.run_dir)?;
        self.pins.recover()?;
        if self.pins.remove_others()? {
            log::warn!("an upgrade was cut off: removed what it left");
        }
        hierarchy.remove_left(canary::CGROUP_PREFIX);
        let state = self.pins.state()?;
        match state {
            PinState::Loaded(config) if !self.is_to_go(options)? => {
                return self.already(config, options);
            }
            PinState::Foreign(found)
                if options.replace == Replace::Never || !is_taken_over(found) =>
            {
                let dir = self.pins.dir().to_owned();
                return Err(PinError::Abi { dir, found }.into());
            }
            PinState::Loaded(_) | PinState::Foreign(_) => {
                drop(lock);
                return self.replace(&hierarchy, state, options);
            }
            PinState::Incomplete => {
                log::warn!("removing incomplete pins in {}", self.pins.dir().display());
                self.pins.remove()?;
            }
            PinState::Absent => {}
        }
        self.pins.prepare()?;
        match load_new(&self.pins, &hierarchy, options) {
            Ok(loaded) => Ok(loaded),
            Err(error) => {
                if let Err(left) = self.pins.remove() {
                    log::warn!("{left}");
                }
                Err(error)
            }
        }
    }

    /// Whether programs of this version's ABI are to be replaced.
    fn is_to_go(&self, options: &Options<'_>) -> Result<bool, SetupError> {
        if options.replace != Replace::Outdated {
            return Ok(options.replace == Replace::Always);
        }
        let there = self.pins.open()?.build().map_err(PinError::from)?;
        let own = build();
        if there.version > own.version {
            let [major, minor, patch] = there.version;
            log::warn!("what is loaded is newer, {major}.{minor}.{patch}, and stays");
            return Ok(false);
        }
        Ok(there.object != own.object)
    }

    /// Removes pins, records and so all enforcement. Returns whether there was
    /// anything.
    ///
    /// # Errors
    ///
    /// Where a file can't be removed.
    pub fn unload(&self) -> Result<bool, SetupError> {
        let _alone = Lock::acquire_named(&self.run_dir, LOAD)?;
        let _lock = Lock::acquire(&self.run_dir)?;
        self.unload_locked()
    }

    /// Unloads what a `run` had loaded for itself, if nothing is bound any more.
    ///
    /// # Errors
    ///
    /// Where a file can't be removed.
    pub fn unload_if_unused(&self) -> Result<(), SetupError> {
        let _alone = Lock::acquire_named(&self.run_dir, LOAD)?;
        let _lock = Lock::acquire(&self.run_dir)?;
        if let PinState::Loaded(config) = self.pins.state()?
            && config.flags & CONFIG_TRANSIENT != 0
            && self
                .pins
                .open()?
                .containers()
                .map_err(PinError::from)?
                .is_empty()
        {
            self.unload_locked()?;
        }
        Ok(())
    }

    fn unload_locked(&self) -> Result<bool, SetupError> {
        let others = self.pins.remove_others()?;
        let any = self.pins.remove()? | others;
        self.records().remove_all()?;
        Ok(any)
    }

    fn records(&self) -> Records {
        Records::below(&self.run_dir)
    }

    fn already(&self, config: Config, options: &Options<'_>) -> Result<Loaded, SetupError> {
        let loaded = Mechanism::from_number(config.mechanism)
            .ok_or_else(|| PinError::Incomplete(self.pins.dir().to_owned()))?;
        if let Choice::One(asked) = options.choice
            && asked != loaded
        {
            return Err(SetupError::Other { loaded, asked });
        }
        if config.flags & CONFIG_TRANSIENT != 0 && !options.transient {
            // Loaded for a command, now asked for to stay.
            let flags = config.flags & !CONFIG_TRANSIENT;
            let mut maps = self.pins.open()?;
            maps.set_config(Config { flags, ..config })
                .map_err(PinError::from)?;
        }
        Ok(Loaded::Already(loaded))
    }
}

fn load_new(
    pins: &Pins,
    hierarchy: &Hierarchy,
    options: &Options<'_>,
) -> Result<Loaded, SetupError> {
    let usual = Capacity::default();
    let mut programs = Programs::load(Capacity {
        containers: options.containers.unwrap_or(usual.containers),
        rules: options.rules.unwrap_or(usual.rules),
    })?;
    let mut armed = arm(&mut programs, hierarchy, options.choice)?;
    if options.transient {
        armed.config.flags |= CONFIG_TRANSIENT;
    }
    pins.pin(&mut programs, armed.attached, armed.config)?;
    Ok(Loaded::New(armed.mechanism, armed.seen))
}

/// Programs that are attached and proven, and not pinned yet.
struct Armed {
    mechanism: Mechanism,
    seen: Seen,
    attached: Vec<Attached>,
    /// What is told of them; the levels are those of the maps.
    config: Config,
}

/// Attaches the first mechanism that works, with all that goes beside it.
fn arm(
    programs: &mut Programs,
    hierarchy: &Hierarchy,
    choice: Choice,
) -> Result<Armed, SetupError> {
    let candidates = match choice {
        Choice::Auto => &Mechanism::ALL[..],
        Choice::One(ref mechanism) => std::slice::from_ref(mechanism),
    };
    let mut tried = Vec::new();
    for &mechanism in candidates {
        if mechanism != Mechanism::Lsm
            && is_since(PREEMPTED)
            && let Err(error) = tracefs::ensure()
        {
            // Fails open, as `signal_again` does then, for an exec beside a program that is
            // held up.
            log::warn!("tracefs can't be mounted: {error}");
        }
        let (first, seen) = match attach(programs, hierarchy, mechanism) {
            Ok(attached) => attached,
            Err(error) => {
                log::debug!("{mechanism}: {error}");
                tried.push((mechanism, error.to_string()));
                continue;
            }
        };
        let mut attached = vec![first];
        if mechanism != Mechanism::Signal {
            attached.extend(backstop(programs, mechanism)?);
        }
        // Fails closed: without it nobody could say what may be forgotten.
        let links = vec![programs.attach_carried()?];
        attached.push(Attached { mechanism, links });
        attached.push(beside(programs, mechanism));
        let flags = match canary::drift::run(hierarchy, programs.maps_mut()) {
            Ok(()) => CONFIG_DRIFT,
            // Fails closed: who asks for drift is refused.
            Err(error) => {
                log::warn!("drift is not offered: {error}");
                0
            }
        };
        return Ok(Armed {
            mechanism,
            seen,
            attached,
            config: Config {
                mechanism: mechanism.number(),
                flags,
                ..Config::default()
            },
        });
    }
    Err(SetupError::NothingWorks(tried))
}

/// What is armed beside every mechanism, where the kernel takes it.
fn beside(programs: &mut Programs, mechanism: Mechanism) -> Attached {
    let mut links = Vec::new();
    match programs.attach_fork(mechanism) {
        Ok(link) => links.push(link),
        // Fails open: for processes that leave their container's cgroup alone.
        Err(error) => log::warn!("processes that leave their cgroup leave their rules: {error}"),
    }
    if matches!(mechanism, Mechanism::Kprobe | Mechanism::Signal) {
        match programs.attach_mappings() {
            Ok(mappings) => links.extend(mappings),
            // Then only the arguments of the dynamic loader are looked at.
            Err(error) => log::debug!("executable mappings are not looked at: {error}"),
        }
    }
    Attached { mechanism, links }
}

/// `signal` behind another mechanism, for what that one can't see. kprobe must
/// not be without it; the others hold alone where the kernel refuses it.
fn backstop(programs: &mut Programs, mechanism: Mechanism) -> Result<Option<Attached>, SetupError> {
    match programs.attach_behind(mechanism) {
        Ok(attached) => Ok(Some(attached)),
        Err(error) if mechanism == Mechanism::Kprobe => Err(error.into()),
        // Fails open: for applets by their first words, and for what passes a guard.
        Err(error) => {
            log::warn!("{mechanism} is armed without the signal backstop: {error}");
            Ok(None)
        }
    }
}
