//! Installing, upgrading and removing, as the Debian package and as install.sh do it, while a denied
//! program is tried without a pause.

mod bare;
mod deb;
mod script;
mod storm;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Case;
use crate::execblock::{self, PINS};
use crate::machine::Machine;
use crate::process::{self, Output};

/// What xtask has put there (xtask/src/vm/package.rs).
const PACKAGE: &str = "/payload/package";
/// Which programs are pinned.
const BUILD: &str = "/sys/fs/bpf/execblock/build";

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = Vec::new();
    if machine.has_systemd() {
        cases.push(Case::longest("install/script", |_| script::case()));
    }
    // Under systemd too where it is asked for: it takes minutes.
    let asked = machine.has_systemd() && machine.filter.contains("deb");
    if asked || matches!(machine.userland.as_str(), "bookworm" | "noble") {
        cases.push(Case::longest("install/deb", deb::case));
    }
    cases
}

/// Those of a machine without engines.
pub(super) fn bare_cases() -> impl Iterator<Item = Case> {
    let script = Case::longest("install/bare", bare::script);
    [script, Case::longest("install/deb", deb::case)].into_iter()
}

/// Loads, and so on: a minute or two where all is emulated and other machines run beside.
fn run(command: &mut Command) -> Result<Output> {
    process::run_within(command, Duration::from_mins(5))
}

fn systemctl(args: &[&str]) -> Result<Output> {
    process::run(process::command("systemctl").args(args))
}

/// Both units run, or have run.
fn units_are_on() -> Result<()> {
    for unit in ["execblock-load.service", "execblock.service"] {
        systemctl(&["is-enabled", unit])?.success()?;
    }
    systemctl(&["is-active", "execblock.service"])?
        .success()
        .map(drop)
}

/// Has the pins say that another build made them, so that the next `load` takes them over. Returns
/// what they said.
fn as_of_another_build() -> Result<Vec<u8>> {
    let own = build()?;
    let mut other = own.clone();
    // Of the object, which comes first; its version comes after.
    *other.first_mut().context("an empty value")? ^= 1;
    let value = other.iter().map(ToString::to_string);
    let mut update = process::command("bpftool");
    update.args([
        "map", "update", "pinned", BUILD, "key", "0", "0", "0", "0", "value",
    ]);
    process::run(update.args(value))?.success()?;
    ensure!(build()? == other, "the map has not changed");
    Ok(own)
}

/// The one value of the map.
fn build() -> Result<Vec<u8>> {
    let mut dump = process::command("bpftool");
    dump.args(["-j", "map", "dump", "pinned", BUILD]);
    let json = process::run_unseen(&mut dump)?.success()?.stdout;
    let entries: serde_json::Value = serde_json::from_str(&json).context("bpftool's JSON")?;
    let bytes = entries[0]["value"].as_array().context("no value")?;
    let byte = |byte: &serde_json::Value| {
        let hex = byte.as_str().and_then(|byte| byte.strip_prefix("0x"));
        Ok(u8::from_str_radix(hex.context("no byte")?, 16)?)
    };
    bytes.iter().map(byte).collect()
}

/// What the cases before left, and an uninstall takes away.
fn nothing_of_others() -> Result<()> {
    // Their backups stay, and are there before. One that is not here has nothing to take away.
    for engine in ["containerd", "docker", "podman"] {
        execblock::run(&["setup", engine, "--remove"])?;
    }
    for dir in [
        "/usr/share/containers/oci",
        "/run/execblock",
        "/etc/execblock",
    ] {
        if Path::new(dir).exists() {
            fs::remove_dir_all(dir).context(dir)?;
        }
    }
    for program in ["execblock", "execblock-runc"] {
        let program = Path::new("/usr/local/bin").join(program);
        if program.exists() || program.is_symlink() {
            fs::remove_file(&program).with_context(|| program.display().to_string())?;
        }
    }
    // Fails where something is in it.
    let _removed = fs::remove_dir("/usr/local/libexec");
    Ok(())
}

/// All files where something of ours may lie.
fn snapshot() -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut left: Vec<PathBuf> = [
        "/etc",
        "/usr/bin",
        "/usr/lib/systemd",
        "/usr/libexec",
        "/usr/local",
        "/usr/share/bash-completion",
        "/usr/share/containers",
        "/usr/share/doc",
        "/usr/share/fish",
        "/usr/share/man",
        "/usr/share/zsh",
        "/var/lib/systemd",
        "/run/execblock",
        PINS,
    ]
    .map(PathBuf::from)
    .into();
    while let Some(path) = left.pop() {
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
        if path.exists() || path.is_symlink() {
            found.insert(path);
        }
    }
    Ok(found)
}

/// All is as it was.
fn nothing_is_left(before: &BTreeSet<PathBuf>) -> Result<()> {
    let after = snapshot()?;
    let left: Vec<_> = after.difference(before).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    let gone: Vec<_> = before.difference(&after).collect();
    ensure!(gone.is_empty(), "taken away: {gone:?}");
    Ok(())
}

/// Says it in words that its user can act on.
fn says(output: &Output, words: &[&str]) -> Result<()> {
    let said = output.said();
    for word in words {
        ensure!(said.contains(word), "no {word:?} in: {said}");
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    Path::new(program).exists()
}
