//! What this machine can do, for `doctor`. Each answer is yes, no or unknown,
//! with the reason.

use std::{fs, io, io::Read as _, path::Path};

use rustix::system::uname;
use serde::Serialize;

use crate::{
    canary::CanaryError,
    cgroup::{CgroupError, Hierarchy},
    kernel::{self, Capacity, Mechanism, PIN_DIR, PinError, PinState, Pins, Programs, tracefs},
    release,
    setup::{self, TryError},
};

/// A three-valued answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// It could not be told.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// `btf`, `lsm_bpf`, …
    pub name: &'static str,
    /// Whether it is there.
    pub answer: Answer,
    /// What was seen.
    pub reason: String,
}

/// One mechanism, tried.
#[derive(Clone, Debug, Serialize)]
pub struct MechanismReport {
    /// Which.
    pub name: &'static str,
    /// Whether it refuses a denied exec here.
    pub available: Answer,
    /// What the canary saw, or why it was not tried.
    pub reason: String,
}

/// Everything that `doctor` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Release of the running kernel.
    pub kernel: String,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What was tried.
    pub mechanisms: Vec<MechanismReport>,
    /// The mechanism that `auto` takes; none where nothing works.
    pub auto: Option<&'static str>,
    /// What to do next.
    pub next_step: String,
}

/// Looks, and tries each mechanism on maps of its own: what is pinned is not
/// touched.
#[must_use]
pub fn examine() -> Report {
    let kernel = uname().release().to_string_lossy().into_owned();
    let hierarchy = Hierarchy::find();
    let checks = vec![
        root(),
        linux(&kernel),
        btf(),
        lsm(),
        kprobe_override(&kernel),
        lockdown(),
        bpffs(),
        tracefs(),
        cgroup(hierarchy.as_ref()),
        pins(),
    ];
    let mut mechanisms: Vec<MechanismReport> = Mechanism::ALL
        .into_iter()
        .map(|one| try_one(hierarchy.as_ref(), one))
        .collect();
    never_alone(&mut mechanisms);
    let auto = mechanisms
        .iter()
        .find(|one| one.available == Answer::Yes)
        .map(|one| one.name);
    let next_step = next_step(&checks, &mechanisms, auto);
    Report {
        kernel,
        checks,
        mechanisms,
        auto,
        next_step,
    }
}

/// `kprobe` sees a name in user memory, which can change: nothing loads it without `signal`.
fn never_alone(mechanisms: &mut [MechanismReport]) {
    let is = |report: &MechanismReport, one: Mechanism| report.name == one.name();
    let signal = mechanisms
        .iter()
        .find(|report| is(report, Mechanism::Signal));
    let behind = signal.map_or(Answer::No, |signal| signal.available);
    let mut kprobe = mechanisms
        .iter_mut()
        .filter(|report| is(report, Mechanism::Kprobe));
    if let Some(kprobe) = kprobe.next()
        && kprobe.available == Answer::Yes
        && behind != Answer::Yes
    {
        kprobe.available = behind;
        kprobe.reason = String::from("signal, which must stand behind it, does not work here");
    }
}

fn check(name: &'static str, answer: Answer, reason: impl Into<String>) -> Check {
    Check {
        name,
        answer,
        reason: reason.into(),
    }
}

fn root() -> Check {
    if rustix::process::geteuid().is_root() {
        check("root", Answer::Yes, "this is root")
    } else {
        check(
            "root",
            Answer::No,
            "loading programs and binding cgroups needs root (sudo)",
        )
    }
}

fn linux(release: &str) -> Check {
    match release::older(release) {
        None => check("linux", Answer::Yes, release),
        Some(reason) => check("linux", Answer::No, reason),
    }
}

fn btf() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    match fs::metadata(path) {
        Ok(file) => check("btf", Answer::Yes, format!("{path} ({} bytes)", file.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check(
            "btf",
            Answer::No,
            format!("no {path}: needs CONFIG_DEBUG_INFO_BTF=y"),
        ),
        Err(error) => check("btf", Answer::Unknown, format!("{path}: {error}")),
    }
}

fn lsm() -> Check {
    let path = "/sys/kernel/security/lsm";
    match fs::read_to_string(path) {
        Ok(list) if list.trim().split(',').any(|lsm| lsm == "bpf") => {
            check("lsm_bpf", Answer::Yes, format!("active: {}", list.trim()))
        }
        Ok(list) => check(
            "lsm_bpf",
            Answer::No,
            format!(
                "bpf is not among the active LSMs ({}); boot with lsm=…,bpf",
                list.trim()
            ),
        ),
        Err(error) => check("lsm_bpf", Answer::Unknown, format!("{path}: {error}")),
    }
}

fn kprobe_override(kernel: &str) -> Check {
    const OPTION: &str = "CONFIG_BPF_KPROBE_OVERRIDE";
    let Some((source, config)) = kernel_config(kernel) else {
        let reason = format!("neither /proc/config.gz nor /boot/config-{kernel} can be read");
        return check("kprobe_override", Answer::Unknown, reason);
    };
    if config
        .lines()
        .any(|line| line == "CONFIG_BPF_KPROBE_OVERRIDE=y")
    {
        check(
            "kprobe_override",
            Answer::Yes,
            format!("{OPTION}=y in {source}"),
        )
    } else {
        check(
            "kprobe_override",
            Answer::No,
            format!("{OPTION} is not set in {source}"),
        )
    }
}

fn kernel_config(kernel: &str) -> Option<(String, String)> {
    let boot = format!("/boot/config-{kernel}");
    if let Ok(text) = fs::read_to_string(&boot) {
        return Some((boot, text));
    }
    let file = fs::File::open("/proc/config.gz").ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .ok()?;
    Some(("/proc/config.gz".to_owned(), text))
}

fn lockdown() -> Check {
    let path = "/sys/kernel/security/lockdown";
    match fs::read_to_string(path) {
        // [none] integrity confidentiality
        Ok(text) if text.contains("[confidentiality]") => check(
            "lockdown",
            Answer::Yes,
            "confidentiality: programs can't read kernel memory, only names by typed loads",
        ),
        Ok(text) if text.contains("[integrity]") => {
            check("lockdown", Answer::Yes, "integrity: does not matter here")
        }
        Ok(_) => check("lockdown", Answer::No, "none"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check(
            "lockdown",
            Answer::Unknown,
            format!("no {path} (securityfs not mounted?)"),
        ),
        Err(error) => check("lockdown", Answer::Unknown, format!("{path}: {error}")),
    }
}

fn bpffs() -> Check {
    let path = Path::new(PIN_DIR).parent().unwrap_or(Path::new("/"));
    if crate::kernel::is_bpffs(path) {
        check(
            "bpffs",
            Answer::Yes,
            format!("mounted at {}", path.display()),
        )
    } else {
        let reason = format!(
            "not mounted at {}; execblock load mounts it",
            path.display()
        );
        check("bpffs", Answer::No, reason)
    }
}

/// Only from Linux 7.0 on is there anything that needs it.
fn tracefs() -> Check {
    match tracefs::place() {
        Some(path) => check(
            "tracefs",
            Answer::Yes,
            format!("mounted at {}", path.display()),
        ),
        None if release::is_since(release::PREEMPTED) => check(
            "tracefs",
            Answer::No,
            "not mounted; execblock load mounts it, for the second look of signal",
        ),
        None => check("tracefs", Answer::No, "not mounted, and not needed here"),
    }
}

fn cgroup(hierarchy: Result<&Hierarchy, &CgroupError>) -> Check {
    match hierarchy {
        Ok(hierarchy) => {
            let mount = hierarchy.mount();
            let kind = if mount == Path::new("/sys/fs/cgroup") {
                "unified"
            } else {
                "hybrid"
            };
            check(
                "cgroup_v2",
                Answer::Yes,
                format!("{kind}, mounted at {}", mount.display()),
            )
        }
        Err(error @ CgroupError::NoUnified) => check("cgroup_v2", Answer::No, error.to_string()),
        Err(error) => check("cgroup_v2", Answer::Unknown, error.to_string()),
    }
}

fn pins() -> Check {
    let pins = Pins::default();
    match pins.state() {
        Ok(PinState::Loaded(_)) => {
            let mechanism = pins.mechanism().map_or("unknown", Mechanism::name);
            let links = pins.link_names().join(" ");
            let other = pins
                .open()
                .and_then(|maps| Ok(maps.build()? != kernel::build()));
            let outdated = if other.unwrap_or(true) {
                "; other programs than this version's (execblock load replaces them, rules hold \
                 meanwhile)"
            } else {
                ""
            };
            check(
                "pins",
                Answer::Yes,
                format!("{PIN_DIR}: {mechanism} ({links}){outdated}"),
            )
        }
        Ok(PinState::Absent) => check("pins", Answer::No, "nothing is loaded (execblock load)"),
        Ok(PinState::Incomplete) => check(
            "pins",
            Answer::No,
            format!("{PIN_DIR} is incomplete (execblock load)"),
        ),
        Ok(PinState::Foreign(found)) => {
            let dir = PIN_DIR.into();
            check("pins", Answer::No, PinError::Abi { dir, found }.to_string())
        }
        Err(error) => check("pins", Answer::Unknown, error.to_string()),
    }
}

fn try_one(hierarchy: Result<&Hierarchy, &CgroupError>, mechanism: Mechanism) -> MechanismReport {
    let (available, reason) = match hierarchy {
        Err(error) => (Answer::Unknown, error.to_string()),
        Ok(hierarchy) => {
            let capacity = Capacity {
                containers: 8,
                rules: 64,
            };
            match Programs::load(capacity) {
                Err(error) => (Answer::No, error.to_string()),
                Ok(mut programs) => match setup::attach(&mut programs, hierarchy, mechanism) {
                    Ok((_, seen)) => (Answer::Yes, format!("a denied program was {seen}")),
                    Err(TryError::Kernel(error)) => (Answer::No, error.to_string()),
                    Err(TryError::Canary(error)) => (proof(&error), error.to_string()),
                },
            }
        }
    };
    MechanismReport {
        name: mechanism.name(),
        available,
        reason,
    }
}

fn proof(error: &CanaryError) -> Answer {
    if error.is_proof() {
        Answer::No
    } else {
        Answer::Unknown
    }
}

fn next_step(
    checks: &[Check],
    mechanisms: &[MechanismReport],
    auto: Option<&'static str>,
) -> String {
    let failing = |name| {
        checks
            .iter()
            .any(|one| one.name == name && one.answer == Answer::No)
    };
    if let Some(auto) = auto {
        if failing("pins") {
            return format!("execblock load pins {auto}, execblock run uses it for one command");
        }
        return "nothing: programs are loaded".to_owned();
    }
    if failing("root") {
        "run execblock doctor as root".to_owned()
    } else if failing("cgroup_v2") {
        "boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 cgroup2 \
         /sys/fs/cgroup/unified"
            .to_owned()
    } else if failing("linux") {
        format!(
            "boot Linux {}.{} or later (docs/kernel-policy.md)",
            release::SINCE.0,
            release::SINCE.1
        )
    } else if failing("btf") {
        "use a kernel with CONFIG_DEBUG_INFO_BTF=y (Linux 5.7 or later)".to_owned()
    } else if mechanisms
        .iter()
        .any(|one| one.available == Answer::Unknown)
    {
        "see the reasons above: no mechanism could be tried".to_owned()
    } else {
        "use a kernel with CONFIG_BPF_LSM=y and bpf in lsm=, or with BTF and trampolines \
         (docs/kernel-policy.md)"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kprobe_alone_is_nothing() {
        let report = |one: Mechanism, available| MechanismReport {
            name: one.name(),
            available,
            reason: String::new(),
        };
        for signal in [Answer::Yes, Answer::No, Answer::Unknown] {
            let mut reports = [
                report(Mechanism::Kprobe, Answer::Yes),
                report(Mechanism::Signal, signal),
            ];
            never_alone(&mut reports);
            assert_eq!(reports[0].available, signal);
        }
    }
}
