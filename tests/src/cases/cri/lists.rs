//! Allow-lists and drift of a pod's container, and what its runtime executes on the way in.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{MemfdFlags, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{Container, Engine, IDLE, is_eperm};
use crate::cases::Case;
use crate::cgroup::Cgroup;
use crate::protocol;

/// All links of the image lead to it; `whoami` alone is a file of its own.
const ALLOW: &[(&str, &str)] = &[("execblock/allow", "busybox")];
const DRIFT: &[(&str, &str)] = &[("execblock/drift", "deny")];

/// What depends on how the runtime gets into a container.
pub(super) fn of_runtime() -> Vec<Case> {
    vec![
        Case::slow("cri/allow-list", |_| allow_list()),
        Case::slow("cri/drift", |_| drift()),
        Case::slow("cri/runtime-exec", |_| runtime_exec()),
    ]
}

/// What is the same with all of them.
pub(super) fn of_node() -> Vec<Case> {
    vec![
        Case::slow("cri/profile", |_| profile()),
        Case::slow("cri/node-default", |_| node_default()),
    ]
}

/// Files below `/etc/execblock`, gone with the case.
pub(super) struct Etc;

impl Etc {
    const DIR: &str = "/etc/execblock";

    pub(super) fn with(file: &str, text: &str) -> Result<Self> {
        let etc = Self;
        let path = format!("{}/{file}", Self::DIR);
        fs::create_dir_all(format!("{}/profiles", Self::DIR))?;
        fs::write(&path, text).context(path)?;
        Ok(etc)
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(Self::DIR) {
            protocol::log(format_args!("{}: {error}", Self::DIR));
        }
    }
}

/// A pod names a profile of the node; one that is not there refuses it.
fn profile() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let _etc = Etc::with("profiles/quiet.toml", "deny = [\"whoami\"]\n")?;
    let pod = engine.pod("profile", &[("execblock/profile", "quiet")])?;
    pod.start("c", IDLE, &[])?.is_protected()?;
    let other = engine.pod("no-profile", &[("execblock/profile", "absent")])?;
    let refused = other.start("c", IDLE, &[]).map(drop);
    let said = format!(
        "{:#}",
        refused.err().context("an unknown profile is no error")?
    );
    ensure!(said.contains("absent"), "{said}");
    Ok(())
}

/// What the node says holds for a pod of the namespace without any annotation, and for none else.
fn node_default() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let etc = Etc::with(
        "config.toml",
        "[[default]]\nname = \"all\"\nmatch = { namespace = \"default\" }\ndeny = [\"whoami\"]\n",
    )?;
    let pod = engine.pod("by-default", &[])?;
    pod.start("c", IDLE, &[])?.is_protected()?;
    // Not to be loosened by the pod.
    let audit = engine.pod(
        "audit",
        &[("execblock/deny", "ls"), ("execblock/mode", "audit")],
    )?;
    audit.start("c", IDLE, &[])?.refuses(&["whoami"])?;
    drop(etc);
    let free = engine.pod("no-default", &[])?;
    free.start("c", IDLE, &[])?.is_unprotected()
}

fn allow_list() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("allow", ALLOW)?;
    let container = pod.start("c", IDLE, &[])?;
    container.runs(&["id", "-u"], "0\n")?;
    container.refuses(&["whoami"])?;
    container.refuses(&["sh", "-c", "exec /usr/bin/whoami"])?;
    // A copy has another name; a link to what is allowed has not.
    container.refuses(&["sh", "-c", "cp /bin/busybox /tmp/x && exec /tmp/x id"])?;
    container.runs(
        &["sh", "-c", "ln -s /bin/busybox /tmp/id && exec /tmp/id -u"],
        "0\n",
    )
}

fn drift() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("drift", DRIFT)?;
    let container = pod.start("c", IDLE, &[])?;
    container.runs(&["id", "-u"], "0\n")?;
    container.runs(&["/usr/bin/whoami"], "root\n")?;
    container.refuses(&["sh", "-c", "cp /bin/busybox /id && exec /id -u"])?;
    container.refuses(&[
        "sh",
        "-c",
        "printf '#!/bin/sh\\nid -u\\n' >/s && chmod 755 /s && exec /s",
    ])?;
    // Copied up, with its data: metacopy is off.
    container.refuses(&[
        "sh",
        "-c",
        "chmod 700 /usr/bin/whoami && exec /usr/bin/whoami",
    ])
}

/// What becomes of an exec.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Ran,
    Refused,
}

/// runc 1.4 and later is in the container's cgroup when it executes itself: the newest runc of the
/// distributions, by the execs above, and the same steps here, one of them changed at a time.
fn runtime_exec() -> Result<()> {
    let engine = Engine::with_plugin()?;
    for (name, annotations) in [("allow", ALLOW), ("drift", DRIFT)] {
        let pod = engine.pod(&format!("runtime-{name}"), annotations)?;
        let container = pod.start("c", IDLE, &[])?;
        steps(&container).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn steps(container: &Container<'_>) -> Result<()> {
    let cgroup = container.cgroup()?;
    fs::create_dir_all(DIR)?;
    fs::copy("/usr/bin/busybox", PROGRAM)?;
    let (overlay, memory) = (on_overlay()?, in_memory()?);
    let host = File::open(PROGRAM)?.into();
    let join = |file: &OwnedFd| exec(file, Some(&cgroup), false);
    for (what, became, expected) in [
        (
            "a clone on a detached overlay",
            join(&overlay)?,
            Became::Ran,
        ),
        ("a clone in memory", join(&memory)?, Became::Ran),
        ("a file of the host", join(&host)?, Became::Refused),
        (
            "a clone in another mount namespace",
            exec(&overlay, Some(&cgroup), true)?,
            Became::Refused,
        ),
        (
            "a clone whose parent is in the container",
            from_inside(&cgroup, &overlay)?,
            Became::Refused,
        ),
    ] {
        protocol::log(format_args!("{what}: {became:?}"));
        ensure!(became == expected, "{what}: {became:?}");
    }
    Ok(())
}

/// Stands in for runc; its name is in no list.
const PROGRAM: &str = "/run/vmtest/runtime/stand-in";
const DIR: &str = "/run/vmtest/runtime";
const SAYS: &str = "it ran";

/// Executes a file by its descriptor, as `echo`.
fn exec(file: &OwnedFd, join: Option<&Cgroup>, elsewhere: bool) -> Result<Became> {
    let procs = join.map(|cgroup| File::options().write(true).open(cgroup.procs()));
    let procs = procs.transpose()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command.arg0("echo").arg(SAYS).env_clear();
    // SAFETY: system calls alone between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if elsewhere {
                unshare_unsafe(UnshareFlags::NEWNS)?;
            }
            if let Some(procs) = &procs {
                rustix::io::write(procs, b"0")?;
            }
            Ok(())
        });
    }
    match command.output() {
        Ok(output) if output.stdout == format!("{SAYS}\n").as_bytes() => Ok(Became::Ran),
        Ok(output) => bail!("neither ran nor was refused: {output:?}"),
        Err(error) if is_eperm(&error.to_string()) => Ok(Became::Refused),
        Err(error) => Err(error.into()),
    }
}

/// As [`exec`], by a parent that is in the container's cgroup meanwhile.
fn from_inside(cgroup: &Cgroup, file: &OwnedFd) -> Result<Became> {
    let own = Cgroup::own()?;
    cgroup.enter()?;
    let became = exec(file, None, false);
    own.enter()?;
    became
}

/// The program on a read-only overlay that is mounted nowhere, as runc clones itself.
fn on_overlay() -> Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "lowerdir", format!("{DIR}:/usr/sbin"))?;
    fsconfig_create(&context)?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat(&mount, "stand-in", flags, Mode::empty())?)
}

fn in_memory() -> Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("runc_cloned", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(&fs::read(PROGRAM)?)?;
    // Busy for writing otherwise.
    let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(readable.into())
}
