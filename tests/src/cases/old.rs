//! A kernel that is older than what execblock asks for: it must say so, refuse whom it can't protect,
//! and touch nobody else.

use anyhow::{Result, ensure};

use super::{Case, engine, kernel};
use crate::execblock::{self, EXIT_UNABLE, PINS};
use crate::machine::{Kernel, Machine, Mechanism};
use crate::protocol;

/// What the reason must name: what the kernel lacks, and what it would take.
const NAMED: &[&str] = &["Linux 6.1"];

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = vec![
        Case::new("old/doctor", |_| doctor()),
        Case::new("old/load", |_| load()),
        Case::slow("old/refused", |_| refused()),
    ];
    // 5.15 warns of itself (check_map_prog_compatibility) when it refuses.
    if machine.kernel == Kernel::V5_10 {
        cases.extend(kernel::cases());
    }
    cases
}

/// Exit status 3; no mechanism is said to work, and each says why.
fn doctor() -> Result<()> {
    let (output, report) = execblock::doctor()?;
    output.expect_code(EXIT_UNABLE)?;
    for mechanism in Mechanism::ALL {
        let found = execblock::find_mechanism(&report, mechanism)?;
        protocol::note(format_args!("doctor: {}", found.text));
        ensure!(!found.works, "said to work: {}", found.text);
    }
    let text = execblock::run(&["doctor"])?.expect_code(EXIT_UNABLE)?;
    protocol::note(&text.stdout);
    names_it(&text.stdout)
}

/// Exit status 3 with the same reason, and nothing is left.
fn load() -> Result<()> {
    for args in [&["load"][..], &["load", "--mechanism", "fmod_ret"]] {
        let output = execblock::run(args)?.expect_code(EXIT_UNABLE)?;
        protocol::note(format_args!("{args:?}: {}", output.stderr));
        names_it(&output.stderr)?;
    }
    let run = execblock::run(&["run", "--deny", "whoami", "--", "id"])?;
    let run = run.expect_code(EXIT_UNABLE)?;
    ensure!(run.stdout.is_empty(), "the command ran: {}", run.stdout);
    names_it(&run.stderr)?;
    ensure!(!std::path::Path::new(PINS).exists(), "pins are left");
    Ok(())
}

fn names_it(said: &str) -> Result<()> {
    for word in NAMED {
        ensure!(said.contains(word), "{word:?} is not named: {said}");
    }
    Ok(())
}

/// An annotated container does not start and says why; one without annotations does.
fn refused() -> Result<()> {
    engine::fails_closed(NAMED)
}
