//! Load and unload: from nothing to pins that hold by themselves, and back.

use std::path::{Path, PathBuf};

use plugin_common::{ABI, CONFIG_DRIFT, CONFIG_TRANSIENT, Config};

use crate::{
    canary::{self, CanaryError, Seen},
    cgroup::{CgroupError, Hierarchy},
    kernel::{Attached, Capacity, KernelError, Mechanism, PinError, PinState, Pins, Programs},
    lock::{Lock, LockError, RUN_DIR},
    record::Records,
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

/// How to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The mechanism.
    pub choice: Choice,
    /// The size of the maps.
    pub capacity: Capacity,
    /// Whether the last user unloads.
    pub transient: bool,
}

/// What `load` found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It was loaded before, with this mechanism.
    Already(Mechanism),
    /// It is loaded now, with this mechanism.
    New(Mechanism, Seen),
}

impl Loaded {
    /// The mechanism in force.
    #[must_use]
    pub fn mechanism(self) -> Mechanism {
        match self {
            Self::Already(mechanism) | Self::New(mechanism, _) => mechanism,
        }
    }
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No mechanism works.
    #[error("this kernel can't refuse an exec:{}", list(.0))]
    NothingWorks(Vec<(Mechanism, String)>),
    /// Pins with another mechanism are there.
    #[error("{loaded} is loaded, not {asked} (execblock unload first)")]
    Other {
        /// What is there.
        loaded: Mechanism,
        /// What was asked for.
        asked: Mechanism,
    },
    /// The object or its maps.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The pins.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The records.
    #[error(transparent)]
    Record(#[from] crate::record::RecordError),
}

fn list(tried: &[(Mechanism, String)]) -> String {
    let lines: Vec<String> = tried
        .iter()
        .map(|(mechanism, reason)| format!("\n  {mechanism}: {reason}"))
        .collect();
    lines.concat()
}

/// Why one mechanism can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TryError {
    /// The kernel refuses its programs.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It does not do what it must.
    #[error(transparent)]
    Canary(#[from] CanaryError),
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
    /// then is undone.
    pub fn load(&self, options: Options) -> Result<Loaded, SetupError> {
        let hierarchy = Hierarchy::find()?;
        let _lock = Lock::acquire(&self.run_dir)?;
        match self.pins.state()? {
            PinState::Loaded(config) => return self.already(config, options),
            PinState::Foreign(found) => {
                return Err(PinError::Abi {
                    dir: self.pins.dir().to_owned(),
                    found,
                }
                .into());
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

    /// Removes pins, records and so all enforcement. Returns whether there was
    /// anything.
    ///
    /// # Errors
    ///
    /// Where a file can't be removed.
    pub fn unload(&self) -> Result<bool, SetupError> {
        let _lock = Lock::acquire(&self.run_dir)?;
        self.unload_locked()
    }

    /// Unloads what a `run` had loaded for itself, if nothing is bound any more.
    ///
    /// # Errors
    ///
    /// Where a file can't be removed.
    pub fn unload_if_unused(&self) -> Result<(), SetupError> {
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
        let any = self.pins.remove()?;
        Records::below(Path::new(&self.run_dir)).remove_all()?;
        Ok(any)
    }

    fn already(&self, config: Config, options: Options) -> Result<Loaded, SetupError> {
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

fn load_new(pins: &Pins, hierarchy: &Hierarchy, options: Options) -> Result<Loaded, SetupError> {
    let mut programs = Programs::load(options.capacity)?;
    let candidates = match options.choice {
        Choice::Auto => &Mechanism::ALL[..],
        Choice::One(ref mechanism) => std::slice::from_ref(mechanism),
    };
    let mut tried = Vec::new();
    for &mechanism in candidates {
        match attach(&mut programs, hierarchy, mechanism) {
            Ok((attached, seen)) => {
                let mut all = vec![attached];
                if mechanism != Mechanism::Signal {
                    all.extend(backstop(&mut programs, mechanism)?);
                }
                all.push(beside(&mut programs, mechanism));
                let mut flags = 0;
                if options.transient {
                    flags |= CONFIG_TRANSIENT;
                }
                match canary::drift::run(hierarchy, programs.maps_mut()) {
                    Ok(()) => flags |= CONFIG_DRIFT,
                    // Fails closed: who asks for drift is refused.
                    Err(error) => log::warn!("drift is not offered: {error}"),
                }
                let config = programs.maps_mut().config().map_err(PinError::from)?;
                let config = Config {
                    abi: ABI,
                    mechanism: mechanism.number(),
                    flags,
                    ..config
                };
                pins.pin(&mut programs, all, config)?;
                return Ok(Loaded::New(mechanism, seen));
            }
            Err(error) => {
                log::debug!("{mechanism}: {error}");
                tried.push((mechanism, error.to_string()));
            }
        }
    }
    Err(SetupError::NothingWorks(tried))
}

/// What is armed beside every mechanism, where the kernel takes it.
fn beside(programs: &mut Programs, mechanism: Mechanism) -> Attached {
    let mut links = Vec::new();
    match programs.attach_fork() {
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
    match programs.attach(Mechanism::Signal) {
        Ok(attached) => Ok(Some(attached)),
        Err(error) if mechanism == Mechanism::Kprobe => Err(error.into()),
        Err(error) => {
            log::warn!("{mechanism} is armed without the signal backstop: {error}");
            Ok(None)
        }
    }
}
