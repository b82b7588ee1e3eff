//! `execblock run` as a program that is put in front of another.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};
use rustix::process::Signal;

use super::Case;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::process;

const LIMIT: Duration = Duration::from_mins(1);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("run/exit-status", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            exit_status()
        }),
        Case::new("run/signals", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            signals()
        }),
        Case::new("run/streams", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            streams()
        }),
        Case::new("run/denied-command", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            denied_command()
        }),
        Case::new("run/wrong-rules", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            wrong_rules()
        }),
        Case::new("run/read-only-cgroups", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            read_only_cgroups()
        }),
        Case::new("run/leaves-nothing", |machine| {
            execblock::loaded(machine.kernel.preferred())?;
            leaves_nothing()
        }),
    ]
}

fn run_shell(script: &str) -> Result<process::Output> {
    execblock::run(&["run", "--deny", "whoami", "--", "sh", "-c", script])
}

fn exit_status() -> Result<()> {
    for code in [0, 1, 3, 7, 126, 255] {
        run_shell(&format!("exit {code}"))?.expect_code(code)?;
    }
    let missing = execblock::run(&["run", "--deny", "whoami", "--", "/no/such/program"])?;
    ensure!(!missing.status.success(), "a program that is not there ran");
    ensure!(
        missing.stderr.contains("/no/such/program"),
        "not named: {}",
        missing.stderr
    );
    Ok(())
}

/// The death of the command by a signal, and signals sent to `execblock run`.
fn signals() -> Result<()> {
    for (name, number) in [("TERM", libc::SIGTERM), ("KILL", libc::SIGKILL)] {
        let output = run_shell(&format!("kill -{name} $$"))?;
        ensure!(
            process::signal_of(output.status) == Some(number),
            "SIG{name} became {}",
            output.status
        );
    }
    let mut command = execblock::command();
    let script = "trap 'exit 42' TERM; echo ready; while :; do read x; done";
    let mut child = command
        .args(["run", "--deny", "whoami", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the command said {line:?}");
    process::signal(process::pid_of(&child)?, Signal::TERM)?;
    // `read` is interrupted by the signal or ends with the pipe; both let the trap run.
    drop(child.stdin.take());
    let status = process::wait_within(&mut child, LIMIT)?;
    ensure!(
        status.code() == Some(42),
        "SIGTERM was not handed on: {status}"
    );
    Ok(())
}

/// Input, output, environment and arguments are the command's own.
fn streams() -> Result<()> {
    let mut command = execblock::command();
    command
        .args(["run", "--deny", "whoami", "--", "sh", "-c"])
        .args([
            "read a; echo \"$a $V $1 $2\"; echo error >&2",
            "sh",
            "--deny",
            "b c",
        ])
        .env("V", "environment");
    let (read, write) = rustix::pipe::pipe()?;
    rustix::io::write(&write, b"input\n")?;
    drop(write);
    let output = process::run(command.stdin(Stdio::from(read)))?.success()?;
    ensure!(
        output.stdout == "input environment --deny b c\n",
        "stdout: {:?}",
        output.stdout
    );
    ensure!(output.stderr == "error\n", "stderr: {:?}", output.stderr);
    Ok(())
}

/// The rules hold for the very command that is named.
fn denied_command() -> Result<()> {
    let output = execblock::run(&["run", "--deny", "whoami", "--", "whoami"])?;
    ensure!(
        !output.status.success() && output.stdout.is_empty(),
        "it ran: {}",
        output.stdout
    );
    ensure!(
        output.stderr.contains("whoami"),
        "the message does not name the program: {:?}",
        output.stderr
    );
    execblock::run(&["run", "--deny", "whoami", "--", "id", "-u"])?.success()?;
    Ok(())
}

fn wrong_rules() -> Result<()> {
    for rules in ["./x", "a,,b", "@no-such-group", "a\u{7}b", "a*b", "*", ""] {
        let output = execblock::run(&["run", "--deny", rules, "--", "echo", "ran"])?;
        ensure!(
            matches!(output.code(), Some(1 | 2)) && output.stdout.is_empty(),
            "--deny {rules:?}: {} {}",
            output.status,
            output.stdout
        );
        ensure!(
            output.stderr.contains("expected"),
            "--deny {rules:?}: {}",
            output.stderr
        );
    }
    execblock::run(&["run", "--deny", "whoami"])?.expect_code(2)?;
    Ok(())
}

/// Where no cgroup can be made, the command must not run unprotected.
fn read_only_cgroups() -> Result<()> {
    let mut command = execblock::command();
    command.args([
        "run",
        "--deny",
        "whoami",
        "--",
        "sh",
        "-c",
        "echo ran; whoami",
    ]);
    // SAFETY: the closure makes three system calls and nothing else.
    unsafe {
        command.pre_exec(|| {
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            )?;
            mount_remount("/sys/fs/cgroup", MountFlags::BIND | MountFlags::RDONLY, c"")?;
            Ok(())
        });
    }
    let output = process::run(&mut command)?;
    ensure!(output.status.signal().is_none(), "{}", output.status);
    ensure!(!output.status.success(), "it succeeded: {}", output.said());
    ensure!(!output.stdout.contains("root"), "whoami ran");
    ensure!(
        !output.stdout.contains("ran"),
        "the command ran without its rules"
    );
    ensure!(
        output.stderr.contains("cgroup"),
        "no reason: {:?}",
        output.stderr
    );
    Ok(())
}

/// After the end of the command neither a map entry nor a cgroup of it is left.
fn leaves_nothing() -> Result<()> {
    let before = execblock::bound_cgroups()?;
    let inside = run_shell("cat /proc/self/cgroup")?.success()?.stdout;
    process::until(LIMIT, "the map entry to go", || {
        Ok((execblock::bound_cgroups()? == before).then_some(()))
    })?;
    let path = inside
        .trim()
        .strip_prefix("0::/")
        .context("cgroup of the command")?;
    let dir = Cgroup::at("")?.procs().with_file_name(path);
    ensure!(!dir.exists(), "{} is left", dir.display());
    Ok(())
}
