//! Attempts on execblock itself, made by the root of a container: on its maps, programs, links, pins,
//! files and daemon. The case says what must become of each; this does it and tells.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::bpf::{self, Kind, Map};
use crate::protocol;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Became {
    /// The kernel refused it with this errno. The denied program is refused as before.
    Errno(i32),
    /// It succeeded, and the denied program is refused all the same.
    Vain,
    /// It succeeded, and the denied program runs.
    Lost,
}

/// Where the attacker looks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    /// `/`, or where the machine's root is mounted.
    pub(crate) root: String,
    /// The daemon, as the machine counts.
    pub(crate) daemon: i32,
    pub(crate) attempts: Vec<String>,
}

const MARK: &str = "tamper ";
const DENIED: &str = "/usr/bin/whoami";
const PINS: &str = "sys/fs/bpf/execblock";
/// For a program whose link went: the kernel frees it a little later.
const LIMIT: Duration = Duration::from_secs(5);

/// Makes the attempts, one after another, and prints what became of each.
pub(crate) fn main(target: &str) -> Result<()> {
    let target: Target = serde_json::from_str(target).context("target")?;
    if runs()? {
        bail!("{DENIED} runs before anything was tried");
    }
    // Kept, as one of the attempts unmounts it.
    let links = File::open(format!("{}{PINS}/links", target.root));
    for name in &target.attempts {
        let became = match target.attempt(name, &links).with_context(|| name.clone())? {
            Err(error) => {
                if runs()? {
                    bail!("{name} failed with {error}, and {DENIED} runs");
                }
                Became::Errno(error.raw_os_error().with_context(|| error.to_string())?)
            }
            Ok(true) => Became::Lost,
            Ok(false) => Became::Vain,
        };
        let line = serde_json::to_string(&(name, became))?;
        protocol::write_stdout(&format!("{MARK}{line}\n"));
    }
    Ok(())
}

pub(crate) fn parse(output: &str) -> Result<Vec<(String, Became)>> {
    let lines = output.lines().filter_map(|line| line.strip_prefix(MARK));
    lines
        .map(|json| serde_json::from_str(json).context("answer"))
        .collect()
}

/// Whether the denied program runs.
fn runs() -> Result<bool> {
    match Command::new(DENIED).output() {
        Ok(output) if output.status.success() => Ok(true),
        Ok(output) => bail!("{DENIED}: {output:?}"),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(false),
        Err(error) => Err(error).context(DENIED),
    }
}

/// Whether the denied program runs where the attempt succeeded; or the kernel's answer.
type Answer = Result<io::Result<bool>>;

impl Target {
    fn attempt(&self, name: &str, pinned: &io::Result<File>) -> Answer {
        match name {
            "map-by-pin" => self.map_by_pin(),
            "map-by-id" => map_by_id(),
            "program-by-id" => opened(Kind::Program.all()),
            "link-by-id" => links(Kind::Link.all()),
            "link-by-pin" => links(self.pinned_links()),
            "own-program" => opened(bpf::attach_allowing()?),
            "own-bpffs" => own_bpffs(),
            "unmount" => {
                let path = format!("{}sys/fs/bpf", self.root);
                done(unmount(&path, UnmountFlags::DETACH))
            }
            "run-directory" => {
                let path = format!("{}run/execblock/lock", self.root);
                opened(File::options().write(true).open(path))
            }
            "kill" => {
                let daemon = Pid::from_raw(self.daemon).context("the daemon's pid")?;
                done(kill_process(daemon, Signal::KILL))
            }
            "unlink" => unlink(pinned),
            _ => bail!("no attempt of that name"),
        }
    }

    fn map_by_pin(&self) -> Answer {
        let map = bpf::by_pin(&format!("{}{PINS}/containers", self.root));
        match map.and_then(Map::of) {
            Ok(map) => emptied(&map),
            Err(error) => Ok(Err(error)),
        }
    }

    fn pinned_links(&self) -> io::Result<Vec<OwnedFd>> {
        let entries = fs::read_dir(format!("{}{PINS}/links", self.root))?;
        entries
            .map(|entry| bpf::by_pin(&entry?.path().to_string_lossy()))
            .collect()
    }
}

/// The pins are what holds the programs.
fn unlink(pinned: &io::Result<File>) -> Answer {
    let pinned = match pinned {
        Ok(pinned) => format!("/proc/self/fd/{}", pinned.as_raw_fd()),
        Err(error) => {
            let errno = error.raw_os_error().context("an errno")?;
            return Ok(Err(io::Error::from_raw_os_error(errno)));
        }
    };
    let removed = fs::read_dir(pinned)
        .and_then(|mut entries| entries.try_for_each(|entry| fs::remove_file(entry?.path())));
    if let Err(error) = removed {
        return Ok(Err(error));
    }
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if runs()? {
            return Ok(Ok(true));
        }
    }
    Ok(Ok(false))
}

/// What was opened is kept until the denied program was tried.
fn opened<T>(result: io::Result<T>) -> Answer {
    match result {
        Ok(_kept) => Ok(Ok(runs()?)),
        Err(error) => Ok(Err(error)),
    }
}

fn done(result: rustix::io::Result<()>) -> Answer {
    opened(result.map_err(Into::into))
}

fn map_by_id() -> Answer {
    let maps = match Kind::Map.all() {
        Ok(maps) => maps,
        Err(error) => return Ok(Err(error)),
    };
    let mut ours = None;
    for fd in maps {
        ours = Some(Map::of(fd)?)
            .filter(|map| map.name == "containers")
            .or(ours);
    }
    emptied(&ours.context("no map named containers")?)
}

/// Without entries, and with them again.
fn emptied(map: &Map) -> Answer {
    let entries = match map.entries() {
        Ok(entries) => entries,
        Err(error) => return Ok(Err(error)),
    };
    if entries.is_empty() {
        bail!("nobody is bound");
    }
    for (key, _) in &entries {
        if let Err(error) = map.delete(key) {
            return Ok(Err(error));
        }
    }
    let answer = runs()?;
    for (key, value) in &entries {
        map.update(key, value)?;
    }
    if runs()? {
        bail!("{DENIED} runs with the entries put back");
    }
    Ok(Ok(answer))
}

/// Each must be refused in the same way: one that goes is one too many.
fn links(all: io::Result<Vec<OwnedFd>>) -> Answer {
    let all = match all {
        Ok(all) => all,
        Err(error) => return Ok(Err(error)),
    };
    if all.is_empty() {
        bail!("there are no links");
    }
    let mut refused = None;
    for link in &all {
        match bpf::detach(link) {
            Ok(()) => return Ok(Ok(runs()?)),
            Err(error) => refused = Some(error),
        }
    }
    Ok(Err(refused.context("no link")?))
}

/// One of its own, in which it looks for our pins.
fn own_bpffs() -> Answer {
    let at = "/tmp/bpffs";
    fs::create_dir_all(at)?;
    let options = CString::new("mode=0700")?;
    if let Err(error) = mount(
        "bpf",
        at,
        "bpf",
        MountFlags::empty(),
        Some(options.as_c_str()),
    ) {
        return Ok(Err(error.into()));
    }
    opened(fs::read_dir(format!("{at}/execblock")))
}
