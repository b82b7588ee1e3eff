//! Many executions at the same time, under each mechanism: no denied program may run, and no other
//! may fail. `fmod_ret` has a guard against recursion that lets a program pass which it skips.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use crate::execblock;
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;
use crate::storm::{self, Counts};

/// More threads than processors, so that they are taken from each other.
const THREADS: u32 = 6;
const TURNS: u32 = 20;
/// Where the case is asked for by name.
const MANY_TURNS: u32 = 100;
const LIMIT: Duration = Duration::from_mins(4);

/// Once for each mechanism, and everywhere where it is asked for.
pub(super) fn cases(machine: &Machine, mechanism: Mechanism) -> Option<Case> {
    let here = machine.kernel.is_usual_for(mechanism) || !machine.filter.is_empty();
    here.then(|| {
        Case::slow(format!("{}/storm", mechanism.name()), move |machine| {
            storm(machine, mechanism)
        })
    })
}

fn storm(machine: &Machine, mechanism: Mechanism) -> Result<()> {
    execblock::loaded(mechanism)?;
    let asked = machine.filter.contains("storm");
    let turns = if asked { MANY_TURNS } else { TURNS };
    let mut command = execblock::command();
    command
        .args(["run", "--deny", "whoami", "--"])
        .arg(std::env::current_exe()?)
        .args(["storm", &THREADS.to_string(), &turns.to_string()]);
    let counts = storm::parse(&process::run_within(&mut command, LIMIT)?.success()?.stdout)?;
    protocol::note(format_args!("{}: {counts:?}", mechanism.name()));
    let all = THREADS * turns;
    ensure!(counts.ran == all, "{counts:?}: others failed");
    let Counts { denied, killed, .. } = counts;
    let as_expected = match mechanism {
        Mechanism::Lsm | Mechanism::Kprobe => (denied, killed) == (all, 0),
        // What its guard passes over, `signal` kills behind it.
        Mechanism::FmodRet => denied + killed == all && denied > killed,
        Mechanism::Signal => (denied, killed) == (0, all),
    };
    ensure!(as_expected, "{counts:?} of {all} each");
    Ok(())
}
