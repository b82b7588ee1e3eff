//! Proof that a mechanism refuses: a scratch cgroup, a denied exec that must
//! fail and another that must not. Loading and attaching prove nothing: an LSM
//! program does both without `bpf` among the active LSMs, and never runs.
//!
//! What is executed is this program itself, `/proc/self/exe --version`: it
//! exists on every machine, and its requested name (`exe`) differs from its
//! resolved one.

pub(crate) mod drift;

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsString,
    fmt, fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
};

use crate::{
    annotation::{Rule, parse_list},
    cgroup::{CgroupError, Hierarchy, Program, Scratch, SpawnError},
    entry::{self, Terms},
    kernel::{MapError, Maps, Mechanism},
    policy::{self, Policy, Rules},
};

const EXE: &str = "/proc/self/exe";

/// What cgroups of the canary begin with.
pub const CGROUP_PREFIX: &str = "execblock-canary-";

/// How a mechanism was seen to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// execve(2) failed with EPERM.
    Eperm,
    /// The program was killed before it could do anything.
    Killed,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eperm => "refused with EPERM",
            Self::Killed => "killed before its first instruction",
        })
    }
}

/// Why a mechanism is not to be used, or could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// It does not refuse.
    #[error("it loads and attaches, but a denied program ran ({0})")]
    Ran(&'static str),
    /// It refuses too much.
    #[error("a program that no rule denies was refused")]
    Twin,
    /// No cgroup to try it in.
    #[error("could not be tried: {0}")]
    Cgroup(#[from] CgroupError),
    /// No entry to try it with.
    #[error("could not be tried: {0}")]
    Map(#[from] MapError),
    /// No process to try it on.
    #[error("could not be tried: {0}")]
    Spawn(#[from] SpawnError),
    /// The process could not be awaited, or its own file not found.
    #[error("could not be tried: {0}")]
    Io(#[from] std::io::Error),
}

impl CanaryError {
    /// Whether the mechanism was tried and failed, as opposed to not tried.
    #[must_use]
    pub fn is_proof(&self) -> bool {
        matches!(self, Self::Ran(_) | Self::Twin)
    }
}

/// Tries a mechanism whose programs are attached and use `maps`, which nobody
/// else uses yet. Leaves the maps empty.
///
/// # Errors
///
/// What went otherwise than it must.
pub fn run(
    hierarchy: &Hierarchy,
    maps: &mut Maps,
    mechanism: Mechanism,
) -> Result<Seen, CanaryError> {
    let scratch = hierarchy.create(&format!("{CGROUP_PREFIX}{}", std::process::id()))?;
    let result = experiments(&scratch, maps, mechanism);
    // Also what a failed attempt left.
    maps.remove_container(scratch.cgroup().id)?;
    forget(maps)?;
    // They would look like real ones in a report.
    maps.discard_events()?;
    maps.clear_stats()?;
    result
}

fn experiments(
    scratch: &Scratch,
    maps: &mut Maps,
    mechanism: Mechanism,
) -> Result<Seen, CanaryError> {
    let mut attempt = |rules: BTreeSet<Rule>| -> Result<Option<Seen>, CanaryError> {
        entry::bind(
            maps,
            scratch.cgroup(),
            &Policy::compile(&Rules {
                deny: policy::always(&rules),
                ..Rules::default()
            }),
            Terms::default(),
        )?;
        let seen = exec(scratch, Path::new(EXE), &["--version".into()]);
        // The next one has a policy of its own, and the maps may be small.
        maps.remove_container(scratch.cgroup().id)?;
        forget(maps)?;
        seen
    };
    if attempt(name("execblock-canary-twin"))?.is_some() {
        return Err(CanaryError::Twin);
    }
    if mechanism == Mechanism::Kprobe {
        // It sees the requested name alone.
        return attempt(name("exe"))?.ok_or(CanaryError::Ran("by its requested name"));
    }
    let file = own_file()?;
    let own_name = file.file_name().unwrap_or_default().to_string_lossy();
    let seen = attempt(name(&own_name))?.ok_or(CanaryError::Ran("by its file name"))?;
    // A path goes through other fields of the kernel's than a name.
    if let Ok(rules) = parse_list(&file.to_string_lossy())
        && attempt(rules)?.is_none()
    {
        return Err(CanaryError::Ran("by its path"));
    }
    Ok(seen)
}

fn forget(maps: &mut Maps) -> Result<(), MapError> {
    entry::forget_policies(maps)?;
    entry::forget_counts(maps, &HashSet::new())
}

fn name(name: &str) -> BTreeSet<Rule> {
    [Rule::Name(name.to_owned())].into()
}

/// Our own file, also where it was replaced or deleted since we started.
fn own_file() -> std::io::Result<PathBuf> {
    let link = fs::read_link(EXE)?;
    let text = link.to_string_lossy();
    Ok(Path::new(text.strip_suffix(" (deleted)").unwrap_or(&text)).to_owned())
}

/// Executes a program in the cgroup; `None` where it ran.
fn exec(scratch: &Scratch, path: &Path, args: &[OsString]) -> Result<Option<Seen>, CanaryError> {
    let program = Program {
        path: path.as_os_str(),
        args,
        alone: true,
    };
    let status = match scratch.spawn(program) {
        Ok(mut child) => child.wait()?,
        Err(SpawnError::Exec(error)) if error.raw_os_error() == Some(libc::EPERM) => {
            return Ok(Some(Seen::Eperm));
        }
        Err(error) => return Err(error.into()),
    };
    Ok((status.signal() == Some(libc::SIGKILL)).then_some(Seen::Killed))
}
