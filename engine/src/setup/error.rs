//! Why nothing was loaded.

use crate::{
    bind::BindError,
    canary::CanaryError,
    cgroup::CgroupError,
    kernel::{KernelError, Mechanism, PinError},
    lock::LockError,
};

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No mechanism works.
    #[error("this kernel can't refuse an exec:{}", list(.0))]
    NothingWorks(Vec<(Mechanism, String)>),
    /// Pins with another mechanism are there.
    #[error(
        "{loaded} is loaded, not {asked} (execblock load --replace --mechanism {asked} changes it, \
         rules hold meanwhile; or execblock unload)"
    )]
    Other {
        /// What is there.
        loaded: Mechanism,
        /// What was asked for.
        asked: Mechanism,
    },
    /// Somebody unloaded or loaded meanwhile.
    #[error("other programs were loaded or unloaded meanwhile: nothing was replaced, try again")]
    Changed,
    /// A container whose rules only the old programs know.
    #[error(
        "cgroup {0} is bound and has no record, so that its rules can't be taken over: the \
         programs before stay; end that container first (execblock status)"
    )]
    NoRecord(u64),
    /// A container could not be taken over.
    #[error("a container can't be taken over, the programs before stay: {0}")]
    Bind(#[from] BindError),
    /// Processes that left their cgroup.
    #[error("looking for processes that left their cgroup, the programs before stay: {0}")]
    Carried(KernelError),
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
