//! The daemon with many containers, and two daemons with the same: their cgroups and processes
//! are real, the runtime that tells of them is not.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, thread, time::Duration};

use execblock::{
    kernel::{Maps, Pins},
    lock::RUN_DIR,
};
use execblock_bench::{
    crowd::{Crowd, Member},
    runtime::{Runtime, container, pod},
};
use libtest_mimic::Failed;
use nri::proto::Container;

use crate::{daemon::get, execblock, runs_in};

/// Runtimes wait two seconds; this machine may be busy with others.
const LIMIT: Duration = Duration::from_mins(1);
const DENY: [(&str, &str); 1] = [("execblock/deny", "whoami")];

/// A daemon that is told of these.
fn daemon(containers: &[Container]) -> Result<Runtime, Failed> {
    daemon_with(&[], containers)
}

fn daemon_with(arguments: &[&str], containers: &[Container]) -> Result<Runtime, Failed> {
    let plugin = |socket: &Path| {
        let mut command = execblock();
        command.arg("nri").arg("--socket").arg(socket);
        // What is bound is said for each.
        command.args(arguments).env("EXECBLOCK_LOG", "error");
        command
    };
    let daemon = Runtime::start(plugin, LIMIT).map_err(failed)?;
    let pods = (0..containers.len()).map(pod).collect();
    let told = daemon.synchronize(pods, containers.to_vec());
    told.map_err(failed)?;
    Ok(daemon)
}

fn bound() -> Result<usize, Failed> {
    Ok(Pins::default().open()?.containers()?.len())
}

/// Whether the program runs in its cgroup.
fn runs(member: &Member, program: &str) -> Result<bool, Failed> {
    runs_in(member.dir(), program)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}

fn unloaded(test: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    let result = test();
    execblock().arg("unload").output()?;
    result
}

/// Containers whose processes exist, so many among those that are told of.
const ANNOTATED: usize = 300;
const ALL: usize = 10_000;

pub(crate) fn ten_thousand_are_told_of() -> Result<(), Failed> {
    unloaded(|| {
        let crowd = Crowd::new("execblock-test-crowd", ANNOTATED + 1).map_err(failed)?;
        let (other, annotated) = crowd.members().split_last().ok_or("nobody")?;
        let every = ALL / ANNOTATED;
        let mut annotated = annotated.iter();
        let containers: Vec<Container> = (0..ALL)
            .map(|number| {
                let next = (number % every == 0).then(|| annotated.next());
                match next.flatten() {
                    Some(member) => container(number, member, &DENY),
                    None => container(number, other, &DENY[..0]),
                }
            })
            .collect();
        let daemon = daemon(&containers)?;
        ensure!(bound()? == ANNOTATED, "{} are bound", bound()?);
        let (last, first) = (&crowd.members()[ANNOTATED - 1], &crowd.members()[0]);
        ensure!(!runs(first, "whoami")? && !runs(last, "whoami")?, "it ran");
        ensure!(runs(other, "whoami")?, "without annotation");
        // Told the same again: no change, not even of the files, and those that it does not
        // know stay.
        let before = record_files(&containers[0].id)?;
        ensure!(before.len() == 1, "files of the first: {before:?}");
        let pods = (0..ALL / 2).map(pod).collect();
        let told = daemon.synchronize(pods, containers[..ALL / 2].to_vec());
        told.map_err(failed)?;
        ensure!(bound()? == ANNOTATED, "{} are bound then", bound()?);
        let after = record_files(&containers[0].id)?;
        ensure!(before == after, "{before:?} before, {after:?} after");
        Ok(())
    })
}

/// What a daemon is told again it leaves as it is only where the maps say what the record
/// does: an entry that is gone, or that says something else, is made anew.
pub(crate) fn what_differs_is_bound_anew() -> Result<(), Failed> {
    unloaded(|| {
        let crowd = Crowd::new("execblock-test-differs", 7).map_err(failed)?;
        let containers: Vec<Container> = (0..)
            .zip(crowd.members())
            .map(|(number, member)| match number {
                4 => container(number, member, &[("execblock/deny", "id")]),
                5 => container(number, member, &[("execblock/allow", "id")]),
                _ => container(number, member, &DENY),
            })
            .collect();
        let daemon = daemon(&containers)?;
        let mut maps = Pins::default().open()?;
        let [gone, audited, others, same, other, listed, kindless] = crowd.members() else {
            return Err("seven were made".into());
        };
        let id = |member: &Member| fs::metadata(member.dir()).map(|dir| dir.ino());
        let entry = |maps: &Maps, member: &Member| -> Result<_, Failed> {
            Ok(maps.container(id(member)?)?.ok_or("it is not bound")?)
        };
        maps.remove_container(id(gone)?)?;
        let audit = plugin_common::Container {
            mode: plugin_common::MODE_AUDIT,
            ..entry(&maps, audited)?
        };
        maps.set_container(id(audited)?, audit)?;
        let of_other = plugin_common::Container {
            policy: entry(&maps, other)?.policy,
            ..entry(&maps, others)?
        };
        maps.set_container(id(others)?, of_other)?;
        // As of a runtime that was another then.
        let of_now = entry(&maps, listed)?;
        let of_then = plugin_common::Container {
            runtime_mnt_ns: 1,
            ..of_now
        };
        maps.set_container(id(listed)?, of_then)?;
        let without_kinds = plugin_common::Container {
            kinds: 0,
            ..entry(&maps, kindless)?
        };
        maps.set_container(id(kindless)?, without_kinds)?;
        for member in [gone, audited, others, kindless] {
            ensure!(runs(member, "whoami")?, "bound in {}", member.path());
        }
        let before = entry(&maps, same)?;
        let told = daemon.synchronize((0..7).map(pod).collect(), containers);
        told.map_err(failed)?;
        for member in [gone, audited, others, same, kindless] {
            ensure!(!runs(member, "whoami")?, "it ran in {}", member.path());
        }
        ensure!(runs(other, "whoami")? && !runs(other, "id")?, "the other");
        ensure!(entry(&maps, same)? == before, "the entry of the same");
        ensure!(entry(&maps, listed)? == of_now, "the runtime's namespaces");
        Ok(())
    })
}

/// A record without an entry protects nobody: its container counts as running without rules
/// where it can't be bound anew. One that has its entry stays under its rules.
pub(crate) fn a_record_alone_protects_nobody() -> Result<(), Failed> {
    unloaded(|| {
        let crowd = Crowd::new("execblock-test-alone", 2).map_err(failed)?;
        let [without, with] = crowd.members() else {
            return Err("two were made".into());
        };
        let dir = tempfile::tempdir()?;
        let metrics = dir.path().join("metrics");
        let address = format!("unix:{}", metrics.display());
        let bound = [container(0, without, &DENY), container(1, with, &DENY)];
        let daemon = daemon_with(&["--metrics", &address], &bound)?;
        let unprotected = |count: usize| -> Result<(), Failed> {
            let answer = get(&metrics, "/metrics")?;
            let wanted = format!("execblock_unprotected_containers {count}");
            ensure!(
                answer.lines().any(|line| line == wanted),
                "no {wanted}: {answer}"
            );
            Ok(())
        };
        unprotected(0)?;
        let id = fs::metadata(without.dir())?.ino();
        Pins::default().open()?.remove_container(id)?;
        // None that can be understood.
        let wrong = [("execblock/deny", "./x")];
        let now = vec![container(0, without, &wrong), container(1, with, &wrong)];
        let told = daemon.synchronize((0..2).map(pod).collect(), now);
        told.map_err(failed)?;
        unprotected(1)?;
        ensure!(runs(without, "whoami")?, "it has no rules");
        ensure!(!runs(with, "whoami")?, "it ran in {}", with.path());
        Ok(())
    })
}

/// Inodes of the files that are kept of a container: one that is written again is another.
fn record_files(container: &str) -> Result<Vec<u64>, Failed> {
    let dir = Path::new(RUN_DIR).join("containers").join(container);
    let files = fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.ino()));
    files.collect()
}

/// A daemon has maps open from one call to the next. What it binds is bound in those that are
/// pinned then, whoever has loaded them meanwhile.
pub(crate) fn binds_where_it_is_loaded_now() -> Result<(), Failed> {
    unloaded(|| {
        let crowd = Crowd::new("execblock-test-now", 3).map_err(failed)?;
        let daemon = daemon(&[])?;
        let start = |number: usize| -> Result<(), Failed> {
            let member = &crowd.members()[number];
            let container = container(number, member, &DENY);
            let started = daemon.start_container(&pod(number), &container);
            started.map_err(failed)?;
            ensure!(!runs(member, "whoami")?, "it ran in {}", member.path());
            ensure!(runs(member, "id")?, "id did not run in {}", member.path());
            Ok(())
        };
        start(0)?;
        let replaced = execblock().args(["load", "--replace"]).output()?;
        ensure!(replaced.status.success(), "{replaced:?}");
        start(1)?;
        ensure!(bound()? == 2, "{} are bound", bound()?);
        for what in ["unload", "load"] {
            let done = execblock().arg(what).output()?;
            ensure!(done.status.success(), "{what}: {done:?}");
        }
        start(2)?;
        ensure!(bound()? == 1, "{} are bound then", bound()?);
        Ok(())
    })
}

/// Two that both bind what starts, as with the service and a pre-installed plugin, or with two
/// runtimes on one machine. What one does not know, it leaves alone.
pub(crate) fn two_daemons_at_once() -> Result<(), Failed> {
    unloaded(|| {
        let mut crowd = Crowd::new("execblock-test-two", 40).map_err(failed)?;
        let mut daemons = [daemon(&[])?, daemon(&[])?];
        let containers: Vec<Container> = (0..)
            .zip(crowd.members())
            .map(|(number, member)| container(number, member, &DENY))
            .collect();
        let mut each = |what: fn(&Runtime, usize, &Container) -> anyhow::Result<()>| {
            thread::scope(|scope| {
                let threads = daemons.each_mut().map(|daemon| {
                    let containers = &containers;
                    scope.spawn(move || {
                        let mut all = (0..).zip(containers);
                        all.try_for_each(|(number, container)| what(daemon, number, container))
                    })
                });
                threads.into_iter().try_for_each(|thread| {
                    let ended = thread.join().map_err(|_panic| "it panicked")?;
                    ended.map_err(failed)
                })
            })
        };
        each(|daemon, number, container| daemon.start_container(&pod(number), container))?;
        ensure!(bound()? == 40, "{} are bound", bound()?);
        for member in crowd.members() {
            ensure!(!runs(member, "whoami")?, "it ran in {}", member.path());
        }
        // A third comes, and its runtime knows none of these.
        drop(daemon(&[])?);
        ensure!(bound()? == 40, "{} are bound then", bound()?);
        crowd.members_mut().iter_mut().for_each(Member::end);
        each(|daemon, number, container| daemon.remove_container(&pod(number), container))?;
        ensure!(bound()? == 0, "{} are left", bound()?);
        Ok(())
    })
}
