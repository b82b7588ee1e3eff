//! What the root of a container can do to execblock itself, by what the container was given. Each
//! attempt states what must become of it; docs/threat-model.md has the same as a table.

mod table;

use anyhow::{Context as _, Result, ensure};

use self::table::{ATTEMPTS, COLUMNS, Column, shown};
use super::{Case, engine};
use crate::containerd::{self, IMAGE, WRAPPER};
use crate::execblock::{self, PLUGIN};
use crate::machine::{Kernel, Machine};
use crate::process;
use crate::protocol;
use crate::tamper::{self, Target};

/// By default what must be refused, and what is done in vain; the others take long, as each takes the
/// pins away, and are run where they are asked for.
const FEW: [&str; 1] = ["bpf"];

/// One kernel: what is tried is who may, and not how a mechanism refuses.
pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    if (machine.kernel, machine.userland.as_str()) != (Kernel::V6_12, "trixie") {
        return Vec::new();
    }
    let case = |column: &'static Column| {
        Case::slow(format!("self/{}", column.name), move |machine| {
            attack(machine, column)
        })
    };
    let asked = machine.filter.contains("self/");
    let here = COLUMNS
        .iter()
        .filter(|column| asked || FEW.contains(&column.name));
    here.map(case).collect()
}

/// All attempts in one container, whose root is denied `whoami`.
fn attack(machine: &Machine, column: &Column) -> Result<()> {
    let (_, is_new) = containerd::ensure()?;
    engine::prepare_ctr()?;
    execblock::loaded(machine.kernel.preferred())?;
    execblock::plugin_running(is_new)?;
    let said = in_container(column);
    if column.root != "/" {
        // There the pins go.
        execblock::unloaded()?;
    }
    let became = tamper::parse(&said?)?;
    ensure!(became.len() == ATTEMPTS.len(), "{} attempts", became.len());
    let mut wrong = Vec::new();
    for ((name, became), attempt) in became.iter().zip(ATTEMPTS) {
        let expected = attempt.expected(column);
        protocol::note(format_args!("{} {name}: {}", column.name, shown(*became)));
        if *became != expected {
            wrong.push(format!("{name}: {became:?}, expected {expected:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn in_container(column: &Column) -> Result<String> {
    let daemon = PLUGIN.pid().context("no daemon")?;
    let target = Target {
        root: column.root.to_owned(),
        daemon: daemon.as_raw_nonzero().get(),
        attempts: ATTEMPTS.iter().map(|one| one.name.to_owned()).collect(),
    };
    let target = serde_json::to_string(&target)?;
    let mut ctr = process::command("ctr");
    ctr.args(["--namespace", "vmtest", "run", "--rm"])
        .args(["--runc-binary", WRAPPER])
        .args(["--annotation", "execblock/deny=whoami"])
        .args(column.options);
    // The image has a BusyBox alone; the probe wants libraries.
    for (from, to) in [
        ("/payload", "/payload"),
        ("/usr/lib", "/lib"),
        ("/usr/lib64", "/lib64"),
    ] {
        ctr.arg("--mount")
            .arg(format!("type=bind,src={from},dst={to},options=rbind:ro"));
    }
    // The program takes itself for the machine's where it is the first process.
    ctr.args([
        IMAGE,
        column.name,
        "/bin/sh",
        "-c",
        "\"$0\" \"$@\"; exit $?",
    ])
    .args(["/payload/vmtest", "tamper", &target]);
    Ok(process::run(&mut ctr)?.success()?.stdout)
}
