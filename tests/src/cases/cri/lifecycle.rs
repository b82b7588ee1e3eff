//! Daemon and engine come and go; what is bound stays bound for as long as its container lives.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::{Engine, IDLE, LIMIT};
use crate::cases::Case;
use crate::containerd;
use crate::execblock::{self, PLUGIN};
use crate::process::{self, LogFile};
use crate::protocol;

const DENY: &[(&str, &str)] = &[("execblock/deny", "whoami")];

/// Where the machine has a containerd of the release before.
pub(super) fn of_upgrade() -> Vec<Case> {
    vec![Case::slow("cri/containerd-upgraded", |_| {
        containerd_upgraded()
    })]
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::slow("cri/removed", |_| removed()),
        Case::slow("cri/ended", |_| ended()),
        Case::slow("cri/restarted-container", |_| restarted_container()),
        Case::slow("cri/plugin-killed", |_| plugin_killed()),
        Case::slow("cri/plugin-restarted", |_| plugin_restarted()),
        Case::slow("cri/plugin-finds-running", |_| plugin_finds_running()),
        Case::slow("cri/containerd-restarted", |_| containerd_restarted()),
        Case::slow("cri/containerd-killed", |_| containerd_killed()),
    ]
}

/// Waits until so many cgroups are bound.
pub(super) fn until_bound(count: usize) -> Result<()> {
    process::until(LIMIT, format_args!("{count} bound cgroups"), || {
        Ok((execblock::bound_cgroups()?.len() == count).then_some(()))
    })
}

fn removed() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("removed", DENY)?;
    let first = pod.start("first", IDLE, &[])?;
    let second = pod.start("second", IDLE, &[])?;
    let (first_id, second_id) = (first.cgroup()?.id()?, second.cgroup()?.id()?);
    let bound = execblock::bound_cgroups()?;
    ensure!(
        bound.contains(&first_id) && bound.contains(&second_id),
        "not bound: {bound:?}"
    );
    first.remove()?;
    process::until(LIMIT, "the entry to go", || {
        Ok((!execblock::bound_cgroups()?.contains(&first_id)).then_some(()))
    })?;
    ensure!(
        execblock::bound_cgroups()?.contains(&second_id),
        "the other went as well"
    );
    second.is_protected()
}

/// A container that ends by itself leaves nothing, once it is removed.
fn ended() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("ended", DENY)?;
    let before = execblock::bound_cgroups()?;
    let container = pod.start("c", &["/bin/true"], &[])?;
    container.end()?;
    container.remove()?;
    process::until(LIMIT, "the entry to go", || {
        Ok((execblock::bound_cgroups()? == before).then_some(()))
    })
}

/// A kubelet restarts a container by creating a new one of the same name in the same pod.
fn restarted_container() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("again", DENY)?;
    for _ in 0..3 {
        let container = pod.start("c", IDLE, &[])?;
        container.is_protected()?;
        container.remove()?;
    }
    Ok(())
}

fn plugin_killed() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let container = engine.pod("killed", DENY)?.start("c", IDLE, &[])?;
    let id = container.cgroup()?.id()?;
    PLUGIN.stop(Signal::KILL)?;
    let left = process::running(&std::fs::canonicalize(execblock::PROGRAM)?)?;
    ensure!(left.is_empty(), "execblock still runs: {left:?}");
    container.is_protected()?;
    ensure!(execblock::bound_cgroups()?.contains(&id), "the entry went");
    Ok(())
}

/// Killed, a plain container started meanwhile, and started again: nothing is lost.
fn plugin_restarted() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("restarted", DENY)?;
    let before = pod.start("before", IDLE, &[])?;
    PLUGIN.stop(Signal::KILL)?;
    let between = engine.pod("between", &[])?.start("c", IDLE, &[])?;
    before.is_protected()?;
    execblock::start_plugin()?;
    before.is_protected()?;
    between.is_unprotected()?;
    let after = pod.start("after", IDLE, &[])?;
    after.is_protected()?;
    before.remove()?;
    let id = after.cgroup()?.id()?;
    process::until(LIMIT, "only the new one to be bound", || {
        let bound = execblock::bound_cgroups()?;
        Ok((bound.len() == 1 && bound.contains(&id)).then_some(()))
    })
}

/// An annotated container that was started without the plugin is bound when the plugin comes.
fn plugin_finds_running() -> Result<()> {
    let engine = Engine::without_plugin()?;
    let container = engine.pod("running", DENY)?.start("c", IDLE, &[])?;
    container.runs(&["whoami"], "root\n")?;
    execblock::start_plugin()?;
    let id = container.cgroup()?.id()?;
    process::until(LIMIT, "the running container to be bound", || {
        Ok(execblock::bound_cgroups()?.contains(&id).then_some(()))
    })?;
    container.is_protected()
}

/// The plugin connects to the new containerd by itself.
fn containerd_restarted() -> Result<()> {
    restart(containerd::stop)
}

/// Containers of the release before live on under the new one.
fn containerd_upgraded() -> Result<()> {
    let new = containerd::version()?;
    PLUGIN.stop(Signal::TERM)?;
    containerd::downgrade()?;
    let old = containerd::version()?;
    protocol::note(format_args!("containerd {old} is upgraded to {new}"));
    ensure!(old != new, "both are {new}");
    let upgraded = restart(|| {
        containerd::stop()?;
        containerd::upgrade()
    });
    if containerd::version()? != new {
        containerd::stop()?;
        containerd::upgrade()?;
    }
    upgraded
}

fn containerd_killed() -> Result<()> {
    restart(|| containerd::DAEMON.stop(Signal::KILL))
}

fn restart(stop: impl Fn() -> Result<()>) -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("engine", DENY)?;
    let before = pod.start("before", IDLE, &[])?;
    let id = before.cgroup()?.id()?;
    let plugin = PLUGIN.pid();
    let mut log = LogFile::from_here(&containerd::DAEMON.log_path());
    stop()?;
    ensure!(
        execblock::bound_cgroups()?.contains(&id),
        "unbound while containerd was down"
    );
    engine.reconnect(containerd::start()?);
    execblock::plugin_connected(&mut log)?;
    ensure!(PLUGIN.pid() == plugin, "the plugin ended");
    before.is_protected()?;
    let after = pod.start("after", IDLE, &[])?;
    after.is_protected()?;
    let plain = engine.pod("plain", &[])?.start("c", IDLE, &[])?;
    plain.is_unprotected()
}
