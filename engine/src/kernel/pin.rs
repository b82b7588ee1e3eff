//! The pins: what holds when every process of ours is gone.
//!
//! ```text
//! /sys/fs/bpf/execblock/            0700
//!     containers rules policies config stats events …
//!     links/                        one for each attached program
//! ```
//! Links are pinned last, and [`Config::abi`](plugin_common::Config) is written
//! after them: pins without it are what a killed `load` left.

use std::{
    ffi::CString,
    fs, io, mem,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use plugin_common::{ABI, Config};

use super::{
    Attached, MapError, Maps, Mechanism, Programs, chain,
    fmod_ret::{bpf, bpf_raw, fd_number},
};

/// Where the pins lie unless a test says otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/execblock";

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h
const BPF_FS: u64 = 0xcafe_4a11;

/// Why pins could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There are none.
    #[error("nothing is loaded: no pins in {0} (execblock load makes them)")]
    NotLoaded(PathBuf),
    /// A killed `load` left some.
    #[error("the pins in {0} are incomplete (execblock load makes them anew)")]
    Incomplete(PathBuf),
    /// Another version made them.
    #[error("the pins in {dir} are of ABI version {found}, expected {ABI}: {}", what_to_do(*.found))]
    Abi {
        /// Where they are.
        dir: PathBuf,
        /// Their version.
        found: u32,
    },
    /// Not a BPF file system, and mounting one failed.
    #[error("no BPF file system at {path}: {source} (mount -t bpf bpf {path})")]
    NoBpffs {
        /// The mount point.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory that others can write to or that is not ours.
    #[error("{0} is not a directory of root's alone (mode 0700)")]
    NotPrivate(PathBuf),
    /// Another call on a file.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Pinning itself.
    #[error("pinning {path}: {}", chain(.source.as_ref()))]
    Pin {
        /// The pin.
        path: PathBuf,
        /// The kernel's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// The oldest version whose pins are taken over.
const OLDEST: u32 = 4;

/// Whether the containers of pins of an older version can be taken over.
#[must_use]
pub fn is_taken_over(abi: u32) -> bool {
    (OLDEST..ABI).contains(&abi)
}

fn what_to_do(found: u32) -> &'static str {
    if is_taken_over(found) {
        "execblock load takes them over, rules hold meanwhile"
    } else if found > ABI {
        "a newer execblock made them, use that one; rules hold"
    } else {
        "they are too old to be taken over: stop the containers, then execblock unload"
    }
}

/// What stands in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// Nothing.
    Absent,
    /// What a killed `load` left.
    Incomplete,
    /// Pins of another ABI version.
    Foreign(u32),
    /// All there.
    Loaded(Config),
}

/// The directory of the pins.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
}

impl Default for Pins {
    fn default() -> Self {
        Self::at(PIN_DIR)
    }
}

impl Pins {
    /// Pins in another directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn links(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// Looks at what is there.
    ///
    /// # Errors
    ///
    /// Where it can't be told.
    pub fn state(&self) -> Result<PinState, PinError> {
        match fs::symlink_metadata(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PinState::Absent),
            Err(error) => return Err(self.failed("stat", &self.dir)(error)),
            // Closed: a link may lead to anybody's.
            Ok(found) if !found.is_dir() || found.uid() != 0 => {
                return Err(PinError::NotPrivate(self.dir.clone()));
            }
            Ok(_) => {}
        }
        let config = match Maps::open_config(&self.dir) {
            Ok(config) => config,
            Err(_) if !self.dir.join("config").exists() => return Ok(PinState::Incomplete),
            Err(error) => return Err(error.into()),
        };
        Ok(match config.abi {
            0 => PinState::Incomplete,
            ABI => PinState::Loaded(config),
            other => PinState::Foreign(other),
        })
    }

    /// Opens the maps, if all is there and of this version.
    ///
    /// # Errors
    ///
    /// Fails closed: without pins, with half of them or with foreign ones
    /// nothing is bound.
    pub fn open(&self) -> Result<Maps, PinError> {
        match self.state()? {
            PinState::Loaded(_) => Ok(Maps::open(&self.dir)?),
            PinState::Absent => Err(PinError::NotLoaded(self.dir.clone())),
            PinState::Incomplete => Err(PinError::Incomplete(self.dir.clone())),
            PinState::Foreign(found) => Err(PinError::Abi {
                dir: self.dir.clone(),
                found,
            }),
        }
    }

    /// As [`open`](Self::open), with maps that were opened before if they are those that
    /// are pinned now.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_again(&self, kept: Option<Maps>) -> Result<Maps, PinError> {
        match (self.state()?, kept) {
            (PinState::Loaded(_), Some(kept)) if kept.are_pinned_in(&self.dir)? => Ok(kept),
            _ => self.open(),
        }
    }

    /// Makes the directories, private, on a BPF file system that is mounted if
    /// need be.
    ///
    /// # Errors
    ///
    /// Where that can't be had.
    pub fn prepare(&self) -> Result<(), PinError> {
        let parent = self.dir.parent().unwrap_or(Path::new("/"));
        mount_bpffs(parent)?;
        for dir in [self.dir.clone(), self.links()] {
            crate::lock::private_dir(&dir).map_err(self.failed("mkdir", &dir))?;
        }
        Ok(())
    }

    /// Pins maps and links, then marks them complete with `config`, but for the levels,
    /// which are those of the maps.
    ///
    /// # Errors
    ///
    /// What is pinned by then stays incomplete; [`Self::remove`] takes it away.
    pub fn pin(
        &self,
        programs: &mut Programs,
        attached: Vec<Attached>,
        config: Config,
    ) -> Result<(), PinError> {
        for (name, map) in programs.maps.all() {
            let path = self.dir.join(name);
            map.pin(&path).map_err(|source| PinError::Pin {
                path,
                source: Box::new(source),
            })?;
        }
        for (name, link) in attached.into_iter().flat_map(|attached| attached.links) {
            link.pin(&self.links().join(name))?;
        }
        let Config {
            levels, deepest, ..
        } = programs.maps.config()?;
        programs.maps.set_config(Config {
            abi: ABI,
            levels,
            deepest,
            ..config
        })?;
        Ok(())
    }

    /// Removes all pins; programs and maps go when their last user does.
    /// Returns whether there were any.
    ///
    /// # Errors
    ///
    /// The first file that can't be removed.
    pub fn remove(&self) -> Result<bool, PinError> {
        // Links first: a program never runs without its maps anyway, but its
        // end is what was asked for.
        let mut any = self.remove_links()?;
        any |= self.empty(&self.dir)?;
        remove_dir(&self.dir).map_err(self.failed("rmdir", &self.dir))?;
        Ok(any)
    }

    /// Removes the pins of the links alone: the programs end, their maps can still be
    /// read. Returns whether there were any.
    ///
    /// # Errors
    ///
    /// The first file that can't be removed.
    pub fn remove_links(&self) -> Result<bool, PinError> {
        let links = self.links();
        let any = self.empty(&links)?;
        remove_dir(&links).map_err(self.failed("rmdir", &links))?;
        Ok(any)
    }

    /// Names of the pinned links.
    #[must_use]
    pub fn link_names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.links()) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The mechanism of complete pins.
    #[must_use]
    pub fn mechanism(&self) -> Option<Mechanism> {
        match self.state() {
            Ok(PinState::Loaded(config)) => Mechanism::from_number(config.mechanism),
            _ => None,
        }
    }

    fn empty(&self, dir: &Path) -> Result<bool, PinError> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.failed("opendir", dir)(error)),
        };
        let mut any = false;
        for entry in entries {
            let path = entry.map_err(self.failed("readdir", dir))?.path();
            if !path.is_dir() {
                fs::remove_file(&path).map_err(self.failed("unlink", &path))?;
                any = true;
            }
        }
        Ok(any)
    }

    #[expect(clippy::unused_self, reason = "reads as a part of each call")]
    pub(super) fn failed<'a>(
        &self,
        call: &'static str,
        path: &'a Path,
    ) -> impl Fn(io::Error) -> PinError + use<'a> {
        move |source| PinError::Io {
            call,
            path: path.to_owned(),
            source,
        }
    }
}

/// A directory that is not there is not removed: on a mount that is read-only, as in the
/// daemon's unit, `rmdir` says so before it looks.
fn remove_dir(dir: &Path) -> io::Result<()> {
    let removed = fs::symlink_metadata(dir).and_then(|_there| fs::remove_dir(dir));
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Mounts a BPF file system where there is none, as bpftool and systemd do.
fn mount_bpffs(path: &Path) -> Result<(), PinError> {
    if is_bpffs(path) {
        return Ok(());
    }
    let flags = rustix::mount::MountFlags::NOSUID
        | rustix::mount::MountFlags::NODEV
        | rustix::mount::MountFlags::NOEXEC;
    rustix::mount::mount("bpf", path, "bpf", flags, Some(c"mode=0700")).map_err(|error| {
        PinError::NoBpffs {
            path: path.to_owned(),
            source: error.into(),
        }
    })
}

/// Whether a BPF file system is mounted there.
#[must_use]
pub(crate) fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(BPF_FS))
}

/// A descriptor of a pinned BPF object.
pub(super) fn get_fd(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all bytes zero is a valid attribute.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.__bindgen_anon_4.pathname = name.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Pins a descriptor of a BPF object.
pub(super) fn pin_fd(fd: &OwnedFd, path: &Path) -> Result<(), PinError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| PinError::Pin {
        path: path.to_owned(),
        source,
    };
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| failed(error.into()))?;
    // SAFETY: all bytes zero is a valid attribute.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.__bindgen_anon_4.pathname = name.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = fd_number(fd);
    bpf_raw(bpf_cmd::BPF_OBJ_PIN, &mut attr)
        .map(drop)
        .map_err(|error| failed(error.into()))
}
