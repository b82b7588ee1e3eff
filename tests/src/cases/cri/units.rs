//! The units of examples/systemd under a real systemd, with the userland's containerd as its
//! neighbour: hardened, the daemon can still do all of its work, and is started again when it hangs
//! or is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

use super::{Engine, IDLE, LIMIT};
use crate::cases::Case;
use crate::containerd;
use crate::execblock;
use crate::machine::Machine;
use crate::process::{self, Output};
use crate::protocol;

const UNITS: &[(&str, &str)] = &[
    (
        "execblock-load.service",
        include_str!("../../../../examples/systemd/execblock-load.service"),
    ),
    (
        DAEMON,
        include_str!("../../../../examples/systemd/execblock.service"),
    ),
];
const DAEMON: &str = "execblock.service";
/// Where the units look for it.
const PROGRAM: &str = "/usr/local/bin/execblock";
const DIR: &str = "/etc/systemd/system";

const CONFIG: &str = "/etc/execblock/config.toml";
const METRICS: &str = "/run/execblock/metrics.sock";
const SETTINGS: &str = "[metrics]\nlisten = \"unix:/run/execblock/metrics.sock\"\n";
/// What a daemon that hangs is given here, in place of the unit's own.
const WATCHDOG: &str = "[Service]\nWatchdogSec=8\n";

/// The greatest exposure that `systemd-analyze security` may find, in tenths: 0 is none, 100 all.
const EXPOSURE: &str = "20";

/// Without notes of systemd's own; its containerd is the userland's, configured by us.
const CONTAINERD: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config \
                          /run/vmtest/containerd.toml\nStandardOutput=append:/run/vmtest/\
                          containerd.log\nStandardError=inherit\n";

pub(in crate::cases) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = vec![
        Case::new("units/analyzed", |_| analyzed()),
        Case::slow("units/daemon", |_| daemon()),
    ];
    // That the unit's list is no longer than it must be: where it is asked for.
    if machine.filter.contains("units/capabilities") {
        cases.push(Case::slow("units/capabilities", |_| capabilities()));
    }
    cases
}

/// The units in place, gone with the case.
struct Installed;

impl Installed {
    fn new() -> Result<Self> {
        execblock::unloaded()?;
        let installed = Self;
        fs::copy(execblock::PROGRAM, PROGRAM).context(PROGRAM)?;
        for (name, text) in UNITS {
            fs::write(Path::new(DIR).join(name), text).context(*name)?;
        }
        drop_in(DAEMON, WATCHDOG)?;
        drop_in("containerd.service", CONTAINERD)?;
        fs::create_dir_all("/etc/execblock")?;
        fs::write(CONFIG, SETTINGS).context(CONFIG)?;
        systemctl(&["daemon-reload"])?;
        Ok(installed)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let ended = (|| {
            systemctl(&["stop", DAEMON, "containerd.service"])?;
            for name in [DAEMON, "containerd.service"] {
                fs::remove_dir_all(Path::new(DIR).join(format!("{name}.d")))?;
            }
            for (name, _) in UNITS {
                fs::remove_file(Path::new(DIR).join(name))?;
            }
            fs::remove_file(CONFIG)?;
            systemctl(&["daemon-reload"])?;
            execblock::unloaded()
        })();
        if let Err(error) = ended {
            protocol::log(format_args!("take the units away: {error:#}"));
        }
    }
}

fn drop_in(unit: &str, text: &str) -> Result<()> {
    let dir = Path::new(DIR).join(format!("{unit}.d"));
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join("vmtest.conf"), text)?)
}

fn systemctl(args: &[&str]) -> Result<Output> {
    process::run(process::command("systemctl").args(args))?.success()
}

fn property(name: &str) -> Result<String> {
    let shown = process::run_unseen(process::command("systemctl").args([
        "show",
        DAEMON,
        "--value",
        "--property",
        name,
    ]))?;
    Ok(shown.success()?.stdout.trim().to_owned())
}

/// The daemon's process, as soon as it has said that it is ready.
fn running() -> Result<Option<Pid>> {
    if property("ActiveState")? != "active" {
        return Ok(None);
    }
    Ok(Pid::from_raw(property("MainPID")?.parse()?))
}

/// What systemd itself makes of the units.
fn analyzed() -> Result<()> {
    let dir = Path::new("/run/vmtest/units");
    fs::create_dir_all(dir)?;
    fs::copy(execblock::PROGRAM, PROGRAM).context(PROGRAM)?;
    let mut verify = process::command("systemd-analyze");
    verify.arg("verify");
    for (name, text) in UNITS {
        let path = dir.join(name);
        fs::write(&path, text)?;
        verify.arg(path);
    }
    let output = process::run(&mut verify)?.success()?;
    ensure!(output.said().is_empty(), "verify: {}", output.said());
    for (name, _) in UNITS {
        let args = ["security", "--no-pager", "--offline=true"];
        let mut security = process::command("systemd-analyze");
        security.args(args).arg(dir.join(name));
        if *name == DAEMON {
            security.arg(format!("--threshold={EXPOSURE}"));
        }
        let output = process::run(&mut security)?;
        protocol::note(output.stdout.lines().last().unwrap_or_default());
        output.success()?;
    }
    Ok(())
}

/// containerd as a unit, and a client of it.
fn start_containerd() -> Result<Engine> {
    containerd::configure()?;
    systemctl(&["start", "containerd.service"])?;
    Engine::new(containerd::client()?)
}

fn until_registered() -> Result<Pid> {
    process::until(LIMIT, "the daemon to be registered", || {
        let connected = execblock::metric_at(METRICS, "execblock_nri_connected")? > 0.5;
        Ok(running()?.filter(|_| connected))
    })
    .inspect_err(|_| show_journal())
}

fn show_journal() {
    let mut journal = process::command("journalctl");
    journal.args(["--no-pager", "--lines=40", "--unit=execblock*"]);
    if let Err(error) = process::run(&mut journal) {
        protocol::log(format_args!("journal: {error:#}"));
    }
}

fn daemon() -> Result<()> {
    let _installed = Installed::new()?;
    systemctl(&["start", DAEMON]).inspect_err(|_| show_journal())?;
    let engine = start_containerd()?;
    let first = until_registered()?;
    let pod = engine.pod("units", &[])?;
    // All three, and the runtime's own exec into it, which allow-list and drift must exempt.
    let bound = pod.start(
        "bound",
        IDLE,
        &[
            ("execblock/deny", "whoami"),
            ("execblock/drift", "deny"),
            ("execblock/allow", "busybox,id"),
        ],
    )?;
    bound.is_protected()?;
    bound.refuses(&["sh", "-c", "cp /bin/busybox /id && exec /id -u"])?;
    bound.refuses(&["sh", "-c", "cp /bin/busybox /x && exec /x id"])?;
    ensure!(
        execblock::metric_at(METRICS, "execblock_bound_containers")? > 0.5,
        "it is not counted"
    );
    private()?;
    let seen = process::run(execblock::command().args(["events", "-o", "json"]))?.success()?;
    ensure!(seen.stdout.contains("whoami"), "events: {}", seen.said());

    // It was told that it lives, as often as it wants to hear.
    ensure!(property("NRestarts")? == "0", "it was started again");
    ensure!(running()? == Some(first), "another process");
    let second = restarted(first, || process::signal(first, Signal::STOP))?;
    ensure!(
        property("NRestarts")? == "1",
        "the one that hung was not found"
    );
    bound.refuses(&["whoami"])?;
    let third = restarted(second, || process::signal(second, Signal::KILL))?;
    bound.refuses(&["whoami"])?;
    let late = pod.start("late", IDLE, &[("execblock/deny", "whoami")])?;
    late.refuses(&["whoami"])?;

    systemctl(&["restart", DAEMON]).inspect_err(|_| show_journal())?;
    ensure!(until_registered()? != third, "the same process");
    bound.refuses(&["whoami"])?;
    systemctl(&["stop", DAEMON])?;
    bound.is_protected()
}

/// Without one of its capabilities the daemon still does this, or refuses the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Binds,
    Refuses,
}

/// Each of the unit's capabilities taken away. What is not needed here is needed on Linux before 5.19
/// (BPF), or for a folder that is another user's (DAC_READ_SEARCH).
fn capabilities() -> Result<()> {
    let _installed = Installed::new()?;
    systemctl(&["start", DAEMON]).inspect_err(|_| show_journal())?;
    let engine = start_containerd()?;
    // An allow-list asks whose programs are exempted, and so for the namespaces of a process.
    let pod = engine.pod("capabilities", &[("execblock/allow", "busybox")])?;
    for (name, expected) in [
        ("CAP_BPF", Without::Binds),
        ("CAP_DAC_READ_SEARCH", Without::Binds),
        ("CAP_SYS_PTRACE", Without::Refuses),
    ] {
        let less = format!("{WATCHDOG}CapabilityBoundingSet=~{name}\n");
        drop_in(DAEMON, &less)?;
        systemctl(&["daemon-reload"])?;
        systemctl(&["restart", DAEMON]).inspect_err(|_| show_journal())?;
        until_registered()?;
        let container = pod.create(&name.to_lowercase().replace('_', "-"), IDLE, &[])?;
        let started = container.start();
        protocol::note(format_args!("without {name}: {started:?}"));
        let became = if started.is_ok() {
            container.refuses(&["whoami"])?;
            Without::Binds
        } else {
            Without::Refuses
        };
        ensure!(became == expected, "without {name}: {became:?}");
    }
    Ok(())
}

/// Ends the daemon in some way, and waits for the next one.
fn restarted(before: Pid, end: impl FnOnce() -> Result<()>) -> Result<Pid> {
    end()?;
    ensure!(
        process::wait_for_exit(before, Duration::from_mins(1))?,
        "it goes on"
    );
    let now = until_registered()?;
    ensure!(now != before, "the same process");
    Ok(now)
}

/// What lies there is root's alone.
fn private() -> Result<()> {
    let mut left = vec![Path::new("/run/execblock").to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path)?;
        let mode = found.permissions().mode() & 0o7777;
        let expected = if found.is_dir() { 0o700 } else { 0o600 };
        ensure!(
            mode == expected && found.uid() == 0 && !found.is_symlink(),
            "{} has mode {mode:o}, expected {expected:o}",
            path.display()
        );
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
    }
    if !Path::new(METRICS).exists() {
        bail!("no {METRICS}");
    }
    Ok(())
}
