//! What the kernel itself says at the end.

use anyhow::{Result, ensure};

use super::Case;
use crate::process;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("kernel/no-warnings", |_| no_warnings())]
}

/// No warning or oops of the kernel while all of this ran.
fn no_warnings() -> Result<()> {
    let log = process::run(process::command("dmesg").arg("--kernel"))?
        .success()?
        .stdout;
    let bad: Vec<_> = log
        .lines()
        .filter(|line| {
            [
                "WARNING: ",
                "BUG: ",
                "Oops",
                "general protection",
                "INFO: task",
                "RCU stall",
            ]
            .iter()
            .any(|word| line.contains(word))
        })
        .collect();
    ensure!(bad.is_empty(), "the kernel said: {}", bad.join("\n"));
    Ok(())
}
