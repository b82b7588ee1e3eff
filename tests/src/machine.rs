//! Which machine this is: the words on the kernel command line and what follows from them.

use anyhow::{Context as _, Result, bail};

/// A way of refusing an exec, as `execblock load --mechanism` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Lsm,
    FmodRet,
    Kprobe,
    Signal,
}

impl Mechanism {
    /// In the order in which `auto` tries them.
    pub(crate) const ALL: [Self; 4] = [Self::Lsm, Self::FmodRet, Self::Kprobe, Self::Signal];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::FmodRet => "fmod_ret",
            Self::Kprobe => "kprobe",
            Self::Signal => "signal",
        }
    }
}

/// The kernels of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Older than what is asked for: nothing works, and that is said. Run only when it is named.
    V5_10,
    V6_1,
    V6_12,
    V7_3,
    /// 6.12 booted with an `lsm=` list that lacks `bpf`.
    NoLsm,
    /// 6.12 with `CONFIG_BPF_KPROBE_OVERRIDE`, the x32 ABI and no `bpf` among its LSMs.
    Override,
    /// Ubuntu 22.04's, which refuses the programs. Run only when it is named.
    Ubuntu5_15,
    /// Those of Ubuntu 24.04 and 26.04. Run only when they are named.
    Ubuntu6_8,
    Ubuntu7_0,
}

impl Kernel {
    pub(crate) const ALL: [Self; 9] = [
        Self::V5_10,
        Self::V6_1,
        Self::V6_12,
        Self::V7_3,
        Self::NoLsm,
        Self::Override,
        Self::Ubuntu5_15,
        Self::Ubuntu6_8,
        Self::Ubuntu7_0,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_3 => "7.3",
            Self::NoLsm => "6.12-nolsm",
            Self::Override => "6.12-override",
            Self::Ubuntu5_15 => "ubuntu-5.15",
            Self::Ubuntu6_8 => "ubuntu-6.8",
            Self::Ubuntu7_0 => "ubuntu-7.0",
        }
    }

    /// What can refuse an exec here. Stated, not probed: the tests hold execblock's own probe
    /// against this table.
    pub(crate) fn has(self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Lsm => matches!(
                self,
                Self::V6_1 | Self::V6_12 | Self::V7_3 | Self::Ubuntu7_0
            ),
            Mechanism::Kprobe => self == Self::Override || self.is_ubuntus(),
            Mechanism::FmodRet | Mechanism::Signal => {
                !matches!(self, Self::V5_10 | Self::Ubuntu5_15)
            }
        }
    }

    /// Of those that Ubuntu builds: they have `bpf_override_return`.
    pub(crate) fn is_ubuntus(self) -> bool {
        matches!(self, Self::Ubuntu6_8 | Self::Ubuntu7_0)
    }

    /// Where what takes its time is tried under a mechanism, once for each.
    pub(crate) fn is_usual_for(self, mechanism: Mechanism) -> bool {
        self == match mechanism {
            Mechanism::Lsm => Self::V6_12,
            Mechanism::FmodRet | Mechanism::Signal => Self::NoLsm,
            Mechanism::Kprobe => Self::Override,
        }
    }

    /// Those that it is so for.
    pub(crate) fn usual(self) -> impl Iterator<Item = Mechanism> {
        let mechanisms = Mechanism::ALL.into_iter();
        mechanisms.filter(move |one| self.is_usual_for(*one))
    }

    pub(crate) fn has_x32(self) -> bool {
        self == Self::Override
    }

    /// What `auto` must choose.
    pub(crate) fn preferred(self) -> Mechanism {
        if self.has(Mechanism::Lsm) {
            Mechanism::Lsm
        } else {
            Mechanism::FmodRet
        }
    }
}

const BOOKWORM: (Kernel, &str) = (Kernel::V6_1, "bookworm");
const TRIXIE: (Kernel, &str) = (Kernel::V6_12, "trixie");
const FORKY: (Kernel, &str) = (Kernel::V7_3, "forky");
const NO_LSM: (Kernel, &str) = (Kernel::NoLsm, "trixie");
const OVERRIDE: (Kernel, &str) = (Kernel::Override, "trixie");
const BOOTED: (Kernel, &str) = (Kernel::V6_12, "trixie-systemd");

/// Cases that take long and tell the same on several machines, with those on which they run in a
/// whole run: the time of that is bounded. Of none, those of which a shorter one, or one of another
/// runtime or mechanism, tells the most: they run when cases are asked for by name.
pub(crate) const BOUNDED: &[(&str, &[(Kernel, &str)])] = &[
    ("cri/allow-list", &[TRIXIE]),
    ("cri/container-wins", &[]),
    ("cri/containerd-killed", &[FORKY]),
    ("cri/containerd-restarted", &[]),
    ("cri/containerd-upgraded", &[FORKY]),
    ("cri/crun-exec", &[]),
    ("cri/daemonset", &[TRIXIE]),
    ("cri/drift", &[TRIXIE]),
    ("cri/ended", &[TRIXIE]),
    ("cri/entrypoint", &[TRIXIE, NO_LSM, OVERRIDE]),
    ("cri/events", &[TRIXIE]),
    ("cri/exec", &[TRIXIE]),
    ("cri/full-map", &[FORKY]),
    ("cri/invalid-container-annotations", &[]),
    ("cri/node-default", &[FORKY]),
    ("cri/plugin-finds-running", &[TRIXIE]),
    ("cri/plugin-killed", &[TRIXIE]),
    ("cri/plugin-restarted", &[]),
    ("cri/pre-installed", &[TRIXIE]),
    ("cri/removed", &[TRIXIE]),
    ("cri/restarted-container", &[]),
    ("cri/runtime-class", &[BOOKWORM]),
    ("cri/runtime-exec", &[TRIXIE]),
    ("cri/scoped-key", &[]),
    ("cri/why", &[]),
    ("cri/without-execblock", &[TRIXIE]),
    ("ctr-crun/refuses", &[]),
    ("ctr/fails-closed", &[TRIXIE]),
    ("ctr/faulty-runtime", &[TRIXIE]),
    ("ctr/invalid", &[]),
    ("ctr/order", &[BOOKWORM]),
    ("ctr/refuses", &[]),
    ("docker-crun/refuses", &[]),
    ("docker/invalid", &[]),
    ("docker/order", &[BOOKWORM, BOOTED]),
    ("docker/refuses", &[FORKY]),
    ("doctor/text", &[TRIXIE]),
    ("evasion/kprobe/name", &[]),
    ("events/fields/fmod_ret", &[NO_LSM, FORKY, BOOKWORM]),
    ("events/fields/signal", &[NO_LSM, FORKY, BOOKWORM]),
    ("kprobe/reported-missing", &[TRIXIE]),
    ("lsm/reported-missing", &[NO_LSM]),
    ("pins/auto", &[TRIXIE]),
    ("podman-crun/fails-closed", &[TRIXIE]),
    ("podman-crun/invalid", &[TRIXIE]),
    ("podman-crun/refuses", &[FORKY]),
    ("podman-runc/invalid", &[]),
    ("podman-runc/refuses", &[]),
    ("podman/cgroups", &[TRIXIE]),
    ("podman/checkpoint", &[TRIXIE]),
    ("podman/lifecycle", &[TRIXIE]),
    ("rules/audit", &[TRIXIE, BOOKWORM, NO_LSM]),
    ("rules/list", &[TRIXIE]),
];

/// What the usual machine leaves to the one that boots the same kernel without `bpf` among its
/// LSMs.
const OF_NOLSM: [&str; 2] = ["fmod_ret/", "signal/"];

/// Ends the name of a userland that systemd boots.
const SYSTEMD: &str = "-systemd";
/// Ends the name of a release without engines.
const BARE: &str = "-bare";

/// Kernel, userland and the cases asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
    pub(crate) userland: String,
    pub(crate) filter: String,
    /// The case to begin with, for a machine that is booted again after it died; empty for the
    /// first.
    pub(crate) from: String,
}

impl Machine {
    pub(crate) fn this() -> Result<Self> {
        let words = std::fs::read_to_string("/proc/cmdline").context("kernel command line")?;
        Self::parse(&words)
    }

    pub(crate) fn parse(command_line: &str) -> Result<Self> {
        let word = |key: &str| {
            command_line
                .split_whitespace()
                .find_map(|word| word.strip_prefix(key))
                .unwrap_or("")
        };
        let kernel = word("execblock.kernel=");
        let Some(kernel) = Kernel::ALL.into_iter().find(|known| known.name() == kernel) else {
            let known = Kernel::ALL.map(Kernel::name).join(", ");
            bail!("execblock.kernel={kernel} on the kernel command line: expected one of {known}");
        };
        Ok(Self {
            kernel,
            userland: word("execblock.userland=").to_owned(),
            filter: word("execblock.filter=").to_owned(),
            from: word("execblock.from=").to_owned(),
        })
    }

    /// The Debian release.
    pub(crate) fn release(&self) -> &str {
        self.userland
            .strip_suffix(SYSTEMD)
            .unwrap_or(&self.userland)
    }

    /// Whether it has no engine: programs are installed there, and no container runs.
    pub(crate) fn is_bare(&self) -> bool {
        self.release().ends_with(BARE)
    }

    /// Whether systemd is PID 1 and keeps the cgroups.
    pub(crate) fn has_systemd(&self) -> bool {
        self.userland.ends_with(SYSTEMD)
    }

    /// Releases whose containerd speaks NRI.
    pub(crate) fn has_nri(&self) -> bool {
        matches!(self.release(), "trixie" | "forky" | "sid" | "noble")
    }

    /// Whether its containerd can require a plugin, which came with 2.2.
    pub(crate) fn has_validator(&self) -> bool {
        self.release() == "noble"
    }

    /// Whether the userland of the release before is there too, as a disk.
    pub(crate) fn has_older(&self) -> bool {
        self.userland == "forky"
    }

    /// The machine on which all cases of a release's engines run: one for each release, and those
    /// with systemd.
    pub(crate) fn tests_engines(&self) -> bool {
        matches!(
            (self.kernel, self.release()),
            (Kernel::V6_1, "bookworm")
                | (Kernel::V6_12, "trixie")
                | (Kernel::V7_3, "forky")
                | (Kernel::Ubuntu6_8, "noble")
        )
    }

    /// Whether what no kernel and no engine makes different runs here: on the usual machine, and on
    /// each where cases are asked for by name. The time of a whole run is bounded.
    pub(crate) fn runs_all(&self) -> bool {
        let usual = (self.kernel, self.userland.as_str()) == (Kernel::V6_12, "trixie");
        usual || !self.filter.is_empty()
    }

    /// Whether a case runs here: where cases are asked for by name, all do.
    pub(crate) fn keeps(&self, case: &str) -> bool {
        if !self.filter.is_empty() {
            return true;
        }
        let bounded = BOUNDED.iter().find(|(name, _)| *name == case);
        let here = (self.kernel, self.userland.as_str());
        let repeats = here == TRIXIE && OF_NOLSM.iter().any(|group| case.starts_with(group));
        !repeats && bounded.is_none_or(|(_, machines)| machines.contains(&here))
    }

    /// Several substrings may be given, split by commas.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filter.split(',').any(|part| name.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_command_line() {
        let machine = Machine::parse(
            "console=ttyS0 execblock.kernel=6.12-nolsm execblock.userland=forky execblock.filter=cri/ execblock.from=cri/exec\n",
        )
        .unwrap();
        assert_eq!(machine.from, "cri/exec");
        assert_eq!(machine.kernel, Kernel::NoLsm);
        assert!(machine.has_nri() && !machine.has_systemd());
        assert!(machine.wants("cri/exec") && !machine.wants("lsm/direct"));
    }

    #[test]
    fn without_a_filter_everything_is_wanted() {
        let machine = Machine::parse("execblock.kernel=7.3 execblock.userland=x").unwrap();
        assert!(machine.wants("anything") && !machine.has_nri());
        let two = Machine::parse("execblock.kernel=7.3 execblock.filter=lsm/,pins/").unwrap();
        assert!(two.wants("lsm/a") && two.wants("pins/a") && !two.wants("cri/a"));
    }

    #[test]
    fn a_userland_says_its_release_and_who_boots_it() {
        for (userland, release, systemd, nri) in [
            ("trixie", "trixie", false, true),
            ("trixie-systemd", "trixie", true, true),
            ("bookworm", "bookworm", false, false),
            ("trixie-bare-systemd", "trixie-bare", true, false),
        ] {
            let words = format!("execblock.kernel=6.12 execblock.userland={userland}");
            let machine = Machine::parse(&words).unwrap();
            assert_eq!(machine.release(), release);
            assert_eq!(machine.has_systemd(), systemd, "{userland}");
            assert_eq!(machine.is_bare(), userland.contains("bare"), "{userland}");
            assert_eq!(machine.has_nri(), nri, "{userland}");
            assert_eq!(machine.tests_engines(), nri, "{userland}");
        }
    }

    #[test]
    fn an_unknown_kernel_names_the_known_ones() {
        let error = Machine::parse("execblock.kernel=5.4")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("5.4") && error.contains("6.12-override"),
            "{error}"
        );
    }
}
