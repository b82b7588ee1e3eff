//! `execblock deny`, `allow`, `clear` and `status` on a cgroup that is in use, with each mechanism.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Case;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;

const LIMIT: Duration = Duration::from_mins(3);
/// Long enough for a few emulated execs before it ends.
const TIME: Duration = Duration::from_secs(8);

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let kernel = machine.kernel;
    let mechanisms = Mechanism::ALL.into_iter();
    mechanisms
        .filter(|mechanism| kernel.has(*mechanism))
        // The usual machine has all but one.
        .filter(|mechanism| machine.runs_all() || *mechanism == Mechanism::Kprobe)
        .map(|mechanism| {
            Case::new(format!("orders/{}", mechanism.name()), move |_| {
                // Time passes the same way in all of them.
                orders(mechanism, mechanism == kernel.preferred())
            })
        })
        .collect()
}

/// A cgroup, as any engine makes one.
struct Target {
    cgroup: Cgroup,
    query: String,
}

impl Target {
    fn order(&self, verb: &str, arguments: &[&str]) -> Result<process::Output> {
        execblock::run(&[&[verb, &self.query], arguments].concat())?.success()
    }

    /// Whether the program runs in it; that it was refused is told from any other failure.
    fn runs(&self, program: &str, mechanism: Mechanism) -> Result<bool> {
        let script = format!("echo 0 > {}; exec {program}", self.cgroup.procs().display());
        let output = process::run(process::command("sh").args(["-c", &script]))?;
        let eperm = output.code() == Some(126) && output.said().contains("not permitted");
        let killed = process::signal_of(output.status) == Some(libc::SIGKILL);
        match mechanism {
            _ if output.status.success() => Ok(true),
            Mechanism::Signal if killed => Ok(false),
            Mechanism::Signal => bail!("{program} was not killed: {}", output.said()),
            _ if eperm => Ok(false),
            _ => bail!("{program} was not refused with EPERM: {}", output.said()),
        }
    }
}

fn orders(mechanism: Mechanism, with_time: bool) -> Result<()> {
    execblock::loaded(mechanism)?;
    let cgroup = Cgroup::own()?.child("orders")?;
    let target = Target {
        query: format!("cgroup:{}", cgroup.path()?),
        cgroup,
    };
    let runs = |program| target.runs(program, mechanism);

    ensure!(runs("/usr/bin/whoami")?, "whoami without a rule");
    target.order("deny", &["whoami", "/usr/bin/nproc"])?;
    ensure!(
        !runs("/usr/bin/whoami")? && !runs("/usr/bin/nproc")?,
        "denied"
    );
    ensure!(runs("/usr/bin/id")?, "another program");
    target.order("allow", &["/usr/bin/nproc"])?;
    ensure!(
        runs("/usr/bin/nproc")? && !runs("/usr/bin/whoami")?,
        "allowed"
    );
    let wrong = execblock::run(&["allow", &target.query, "id"])?;
    ensure!(
        wrong.code() == Some(1) && wrong.stderr.contains("denied are: whoami"),
        "what nothing denies was lifted: {}",
        wrong.said()
    );
    let status = target.order("status", &["--json"])?;
    let status: serde_json::Value = serde_json::from_str(&status.stdout)?;
    let rule = &status[0]["rules"][0];
    ensure!(
        rule["rule"] == "whoami" && rule["hits"] == 2 && rule["origin"] == "command-line",
        "{status}"
    );
    protocol::note(target.order("status", &[])?.stdout.trim_end());

    if with_time {
        deadlines(&target, mechanism)?;
    }
    let said = target.order("clear", &[])?.stdout;
    ensure!(said.contains("no rule holds"), "{said}");
    ensure!(runs("/usr/bin/whoami")?, "whoami after clear");
    let id = target.cgroup.id()?;
    ensure!(
        !execblock::bound_cgroups()?.contains(&id),
        "the entry is left"
    );
    Ok(())
}

/// A rule ends, and a lifted one comes back, with no process of execblock alive.
fn deadlines(target: &Target, mechanism: Mechanism) -> Result<()> {
    let time = format!("{}s", TIME.as_secs());
    let began = Instant::now();
    target.order("deny", &["id", "--for", &time])?;
    ensure!(!target.runs("/usr/bin/id", mechanism)?, "denied for a time");
    target.order("allow", &["whoami", "--for", &time])?;
    ensure!(
        target.runs("/usr/bin/whoami", mechanism)?,
        "lifted for a time"
    );
    let program = std::fs::canonicalize(execblock::PROGRAM)?;
    ensure!(process::running(&program)?.is_empty(), "execblock runs");
    process::until(LIMIT, "the rule to end", || {
        Ok(target.runs("/usr/bin/id", mechanism)?.then_some(()))
    })?;
    let took = began.elapsed();
    ensure!(took >= TIME, "it ended after {took:?}");
    process::until(LIMIT, "the lifted rule to come back", || {
        Ok((!target.runs("/usr/bin/whoami", mechanism)?).then_some(()))
    })
}
