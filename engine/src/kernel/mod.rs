//! The only module that knows eBPF: load, attach, pin, the maps, the kernel's
//! type information. Everything else speaks of [`Mechanism`]s and [`Maps`].

mod attach;
mod btf;
mod carry;
mod events;
mod fill;
mod fmod_ret;
mod load;
mod maps;
mod older;
mod pin;
mod rules;
mod swap;
mod tags;
pub(crate) mod tracefs;

use std::{fmt, io, path::PathBuf, str::FromStr};

pub use attach::{Attached, Link};
pub use events::Events;
pub use fill::Fill;
pub use load::{Capacity, Programs, Tags, build};
pub use maps::{MapError, Maps};
pub use older::Older;
pub(crate) use pin::is_bpffs;
pub use pin::{PIN_DIR, PinError, PinState, Pins, is_taken_over};
use plugin_common::{MECHANISM_FMOD_RET, MECHANISM_KPROBE, MECHANISM_LSM, MECHANISM_SIGNAL};

/// How an exec is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// BPF LSM on `bprm_check_security`: EPERM. Needs `bpf` among the active
    /// LSMs (Linux 5.7).
    Lsm,
    /// fmod_ret on `security_bprm_check`: EPERM. Needs BTF and trampolines
    /// (Linux 5.7).
    FmodRet,
    /// kprobe on the exec syscalls with `bpf_override_return`: EPERM for what
    /// the requested name tells. Needs `CONFIG_BPF_KPROBE_OVERRIDE`, x86-64.
    Kprobe,
    /// BTF tracepoint `sched_process_exec`: SIGKILL before the first
    /// instruction (Linux 5.5).
    Signal,
}

impl Mechanism {
    /// In the order in which they are preferred.
    pub const ALL: [Self; 4] = [Self::Lsm, Self::FmodRet, Self::Kprobe, Self::Signal];

    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::FmodRet => "fmod_ret",
            Self::Kprobe => "kprobe",
            Self::Signal => "signal",
        }
    }

    /// The number in the maps.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Lsm => MECHANISM_LSM,
            Self::FmodRet => MECHANISM_FMOD_RET,
            Self::Kprobe => MECHANISM_KPROBE,
            Self::Signal => MECHANISM_SIGNAL,
        }
    }

    /// The mechanism of a number in the maps.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.number() == number)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mechanism {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == text)
            .ok_or_else(|| {
                format!("unknown mechanism {text:?}, expected lsm, fmod_ret, kprobe or signal")
            })
    }
}

/// Why programs could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel's type information.
    #[error("kernel type information: {0}")]
    Btf(#[from] btf::BtfError),
    /// The object or its maps.
    #[error("loading the eBPF object: {}", chain(.0.as_ref()))]
    Object(#[from] Box<aya::EbpfError>),
    /// A program that the kernel refuses.
    #[error("loading or attaching {program}: {}", chain(.source.as_ref()))]
    Program {
        /// Name of the program.
        program: &'static str,
        /// The kernel's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No symbol of the exec syscalls was found.
    #[error("none of the exec syscalls is in /proc/kallsyms")]
    NoSyscall,
    /// A map of the object.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A file.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// An error with its sources on one line: aya's own message often leaves the
/// errno to its source. Of the verifier's output only the end: that is where it
/// says why, and the rest is megabytes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    shorten(&text)
}

fn shorten(text: &str) -> String {
    const LINES: usize = 8;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.as_slice() {
        [] => String::new(),
        [first, rest @ ..] if rest.len() > LINES => {
            let first = first
                .split("Verifier output:")
                .next()
                .unwrap_or(first)
                .trim_end();
            format!(
                "{first} Verifier output ends: {}",
                rest[rest.len() - LINES..].join("; ")
            )
        }
        lines => lines.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for mechanism in Mechanism::ALL {
            assert_eq!(mechanism.name().parse(), Ok(mechanism));
            assert_eq!(Mechanism::from_number(mechanism.number()), Some(mechanism));
        }
        assert!("bogus".parse::<Mechanism>().is_err());
        assert_eq!(Mechanism::from_number(0), None);
    }
}
