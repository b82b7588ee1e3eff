//! What an annotated container is refused, and that others are not.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{Container, Engine, IDLE, LIMIT, is_eperm};
use crate::cases::Case;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::process::{self, LogFile};
use crate::protocol;

const DENY: &[(&str, &str)] = &[("execblock/deny", "whoami")];

pub(super) fn core() -> Vec<Case> {
    vec![
        Case::slow("cri/entrypoint", |_| entrypoint("runc")),
        Case::slow("cri/exec", |_| exec("runc")),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::slow("cri/crun-entrypoint", |_| entrypoint("crun")),
        Case::slow("cri/crun-exec", |_| exec("crun")),
        Case::slow("cri/container-annotation", |_| container_annotation()),
        Case::slow("cri/container-wins", |_| container_wins()),
        Case::slow("cri/scoped-key", |_| scoped_key()),
        Case::slow("cri/unannotated", |_| unannotated()),
        Case::slow("cri/script", |_| script()),
        Case::slow("cri/child-cgroup", |_| child_cgroup()),
        Case::slow("cri/moved-to-child-cgroup", |_| moved_to_child_cgroup()),
    ]
}

/// The denied program as the container's own command: the file, then the link to `BusyBox`.
fn entrypoint(runtime: &str) -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod_on(runtime, "entrypoint", DENY)?;
    for (name, command) in [
        ("file", "/usr/bin/whoami"),
        ("link", "/bin/whoami"),
        ("on-path", "whoami"),
    ] {
        let container = pod.create(name, &[command], &[])?;
        is_refused(&container).with_context(|| command.to_owned())?;
    }
    let other = pod.start("other", &["/bin/id", "-u"], &[])?;
    let status = other.end()?;
    ensure!(
        status.exit_code == 0 && other.log()? == "0\n",
        "id: {status:?} {}",
        other.log()?
    );
    Ok(())
}

/// The start fails, or it succeeds and the container ends at once. Who says why depends on both
/// runtime and engine: the start's error, the container's status, or its log.
fn is_refused(container: &Container<'_>) -> Result<()> {
    let mut said = String::new();
    if let Err(error) = container.start() {
        said = format!("{error:#}");
    }
    let status = container.end()?;
    let output = container.log().unwrap_or_default();
    ensure!(!output.contains("root\n"), "it ran: {output}");
    ensure!(status.exit_code != 0, "exit code 0: {status:?}");
    said = format!("{said} {} {} {output}", status.reason, status.message);
    protocol::note(format_args!(
        "refused entrypoint: exit code {}: {said}",
        status.exit_code
    ));
    ensure!(
        is_eperm(&said),
        "nobody says that it was not permitted: {said}"
    );
    Ok(())
}

fn exec(runtime: &str) -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod_on(runtime, "exec", DENY)?;
    let container = pod.start("c", IDLE, &[])?;
    let bound = execblock::bound_cgroups()?;
    ensure!(
        bound.contains(&container.cgroup()?.id()?),
        "its cgroup is not in the map: {bound:?}"
    );
    container.is_protected()?;
    container.refuses(&["/usr/bin/whoami"])?;
    // A link to `BusyBox`.
    container.refuses(&["/bin/whoami"])?;
    // By path: Debian's `BusyBox` shell runs its own applets without an exec.
    container.refuses(&["sh", "-c", "/usr/bin/whoami"])
}

fn container_annotation() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("annotated-container", &[])?;
    let denied = pod.start("denied", IDLE, DENY)?;
    let other = pod.start("other", IDLE, &[])?;
    denied.is_protected()?;
    other.is_unprotected()
}

/// A container's own annotation wins over its pod's.
fn container_wins() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("both", DENY)?;
    let own = pod.start("own", IDLE, &[("execblock/deny", "id")])?;
    let inherits = pod.start("inherits", IDLE, &[])?;
    own.refuses(&["id"])?;
    own.runs(&["whoami"], "root\n")?;
    inherits.is_protected()
}

fn scoped_key() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("scoped", &[("execblock/deny.container.chosen", "whoami")])?;
    let chosen = pod.start("chosen", IDLE, &[])?;
    let other = pod.start("other", IDLE, &[])?;
    chosen.is_protected()?;
    other.is_unprotected()?;

    let pod = engine.pod(
        "scoped-over",
        &[
            ("execblock/deny", "whoami"),
            ("execblock/deny.container.chosen", "id"),
        ],
    )?;
    let chosen = pod.start("chosen", IDLE, &[])?;
    chosen.refuses(&["id"])?;
    chosen.runs(&["whoami"], "root\n")
}

fn unannotated() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let denied = engine.pod("denied", DENY)?.start("c", IDLE, &[])?;
    let plain = engine
        .pod("plain", &[("unrelated/key", "whoami")])?
        .start("c", IDLE, &[])?;
    plain.is_unprotected()?;
    denied.is_protected()?;
    let host = process::run(&mut process::command("/usr/bin/whoami"))?.success()?;
    ensure!(host.stdout == "root\n", "on the host: {:?}", host.stdout);
    Ok(())
}

/// A script whose interpreter is the denied program, made inside the container.
fn script() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let container = engine.pod("script", DENY)?.start("c", IDLE, &[])?;
    let make = |interpreter: &str| {
        format!("echo '#!{interpreter}' >/tmp/s && busybox chmod +x /tmp/s && exec /tmp/s")
    };
    container.refuses(&["sh", "-c", &make("/bin/whoami")])?;
    container.runs(&["sh", "-c", &make("/bin/echo")], "/tmp/s\n")
}

/// A privileged container makes a cgroup below its own and moves into it.
fn child_cgroup() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("child", DENY)?;
    let container = pod.create_with("c", IDLE, &[], true)?;
    container.start()?;
    let move_and = |name: &str, command: &str| {
        format!(
            "c=/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)/{name}; mkdir $c \
             && echo $$ >$c/cgroup.procs && grep -q {name} /proc/self/cgroup && exec {command}"
        )
        .replace("grep", "busybox grep")
    };
    container.refuses(&["sh", "-c", &move_and("one", "/usr/bin/whoami")])?;
    container.runs(&["sh", "-c", &move_and("two", "id -u")], "0\n")
}

/// The container's first process, moved from outside before it executes the program.
fn moved_to_child_cgroup() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("moved", DENY)?;
    let script = "until [ -e /tmp/go ]; do sleep 0.1; done; id -u; /usr/bin/whoami; echo status=$?; \
                  sleep 1000000";
    let container = pod.start("c", &["/bin/sh", "-c", script], &[])?;
    let pid = container.pid()?;
    let child: Cgroup = container.cgroup()?.child("moved")?;
    child.add(pid)?;
    let mut log = LogFile::from_here(&container.log);
    fs::write(format!("/proc/{pid}/root/tmp/go"), "")?;
    log.wait_for(LIMIT, "the end of the exec", |line| {
        line.contains("status=")
    })?;
    let said = container.log()?;
    // Output and errors come by two pipes, so their order in the log is nobody's promise.
    ensure!(
        said.lines().any(|line| line == "0"),
        "id did not run: {said}"
    );
    ensure!(
        said.contains("status=126") && is_eperm(&said),
        "not refused: {said}"
    );
    Ok(())
}
