//! A machine without an engine, under systemd, as somebody has it who only wants to see: from nothing
//! to a refusal, and back to nothing. What is done and said is told where the case is asked for by
//! name.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{PACKAGE, nothing_is_left, run, says, snapshot, units_are_on};
use crate::execblock;
use crate::machine::Machine;
use crate::process::{self, Output};
use crate::protocol;

const PROGRAM: &str = "/usr/local/bin/execblock";
const ENGINES: [&str; 5] = ["containerd", "dockerd", "podman", "runc", "crun"];
const SERVICE: &str = "cgroup:/system.slice/shop.service";
const LIMIT: Duration = Duration::from_mins(2);

/// Gone with the case, also where it failed.
struct Uninstalled;

impl Drop for Uninstalled {
    fn drop(&mut self) {
        let mut script = process::command(format!("{PACKAGE}/install.sh"));
        drop(run(script.args(["--uninstall", "--yes"])));
    }
}

pub(super) fn script(machine: &Machine) -> Result<()> {
    execblock::unloaded()?;
    for engine in ENGINES {
        let found =
            process::run(process::command("sh").args(["-c", &format!("command -v {engine}")]))?;
        ensure!(
            !found.status.success(),
            "{engine} is here: {}",
            found.said()
        );
    }
    let before = snapshot()?;
    let _uninstalled = Uninstalled;
    let told = |words: &[&str]| told(machine, words);
    let install = format!("{PACKAGE}/install.sh");

    let said = told(&[&install, "--from", "/payload", "--demo"])?.success()?;
    let refused = "whoami: exit status 126";
    says(
        &said,
        &[
            "auto takes",
            refused,
            "no containerd on this machine",
            "execblock setup",
        ],
    )?;
    units_are_on()?;

    let mut shop = Shop::open()?;
    told(&[PROGRAM, "deny", SERVICE, "whoami"])?.success()?;
    let why = told(&[PROGRAM, "why", SERVICE, "whoami"])?.expect_code(1)?;
    says(&why, &["is denied", "rule \"whoami\""])?;
    let said = shop.sell()?;
    ensure!(said == "126\n0\n", "whoami and id ended with {said:?}");
    says(
        &told(&[PROGRAM, "events", "--since", "1h"])?.success()?,
        &["denied", "whoami", "shop"],
    )?;
    told(&[PROGRAM, "status"])?.success()?;

    // An engine that comes later is told then; one that is not here has nothing to be told.
    told(&[&install, "--from", "/payload"])?.success()?;
    units_are_on()?;
    told(&[&install, "--uninstall", "--yes"])?.success()?;
    let free = process::run(&mut process::command("whoami"))?.success()?;
    ensure!(free.stdout == "root\n", "whoami said {}", free.said());
    nothing_is_left(&before)
}

/// Runs it, and tells of it where somebody asked for the case.
fn told(machine: &Machine, words: &[&str]) -> Result<Output> {
    let (program, arguments) = words.split_first().context("no command")?;
    let output = run(process::command(program).args(arguments))?;
    if !machine.filter.is_empty() {
        protocol::note(format_args!("# {}", words.join(" ")));
        protocol::note(output.said());
    }
    Ok(output)
}

/// A service of systemd's that runs already when it gets a rule.
struct Shop(Child);

impl Shop {
    fn open() -> Result<Self> {
        let script = "echo open; read line; whoami; echo $?; id -u >/dev/null; echo $?";
        let mut service = process::command("systemd-run");
        service.args(["--quiet", "--unit=shop", "--pipe", "--wait", "--collect"]);
        service.args(["/bin/sh", "-c", script]);
        service.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shop = Self(service.spawn().context("systemd-run")?);
        let mut line = String::new();
        shop.output()?.read_line(&mut line)?;
        ensure!(line == "open\n", "the service said {line:?}");
        Ok(shop)
    }

    /// Has it try, and returns what it says until its end.
    fn sell(&mut self) -> Result<String> {
        let mut input = self.0.stdin.take().context("no input")?;
        input.write_all(b"go\n")?;
        drop(input);
        let mut said = String::new();
        self.output()?.read_to_string(&mut said)?;
        process::wait_within(&mut self.0, LIMIT)?;
        Ok(said)
    }

    /// It says one line, and no more until it is asked to: nothing stays in a buffer.
    fn output(&mut self) -> Result<BufReader<&mut std::process::ChildStdout>> {
        Ok(BufReader::new(self.0.stdout.as_mut().context("no output")?))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let mut stop = process::command("systemctl");
        drop(process::run(stop.args(["stop", "shop.service"])));
        drop(process::wait_within(&mut self.0, LIMIT));
    }
}
