//! Where a container lived when it was bound is what its allow-list and drift go by.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use execblock::kernel::Pins;
use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process};

use super::{execblock, text};

/// An order for a container whose process has made a mount namespace of its own meanwhile.
pub(super) fn an_order_keeps_it() -> Result<(), Failed> {
    let script = "echo there; exec sleep 1000";
    let mut run = execblock();
    run.args(["run", "--allow", "/", "--"])
        .args(["unshare", "--mount", "sh", "-c", script]);
    let mut child = run.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let said = child.stdout.take().ok_or("no output")?;
    BufReader::new(said).read_line(&mut line)?;
    let result = order(&line);
    // It goes to the command, whose end is the end of it all.
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or("pid")?;
    kill_process(pid, Signal::TERM)?;
    child.wait()?;
    result
}

fn order(line: &str) -> Result<(), Failed> {
    ensure!(line == "there\n", "it said {line:?}");
    let bound = || -> Result<_, Failed> {
        let all = Pins::default().open()?.containers()?;
        Ok(*all.first().ok_or("nothing is bound")?)
    };
    let (cgroup, before) = bound()?;
    ensure!(before.mnt_ns != 0, "no namespace is recorded");
    let status = execblock().args(["status", "--json"]).output()?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    let path = status[0]["path"]
        .as_str()
        .ok_or_else(|| status.to_string())?;
    let query = format!("cgroup:{path}");
    let ordered = execblock().args(["deny", &query, "whoami"]).output()?;
    ensure!(ordered.status.success(), "{}", text(&ordered.stderr));
    let (same, after) = bound()?;
    ensure!(
        same == cgroup && after.policy != before.policy,
        "the order did nothing"
    );
    let site = |one: plugin_common::Container| (one.root_dev, one.mnt_ns, one.runtime_mnt_ns);
    ensure!(
        site(after) == site(before),
        "from {:?} to {:?}",
        site(before),
        site(after)
    );
    Ok(())
}
