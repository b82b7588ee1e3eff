//! A storm of executions on all processors, denied programs among others: what one processor does must
//! not open a gap on another.

use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process;
use crate::protocol;

const MARK: &str = "storm ";

/// How often, and how it went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Denied programs that failed with EPERM.
    pub(crate) denied: u32,
    /// Denied programs that were killed and said nothing.
    pub(crate) killed: u32,
    /// Others, which ran to their end.
    pub(crate) ran: u32,
}

/// Executes denied and other programs by turns, so many on each of so many threads.
pub(crate) fn main(threads: &str, turns: &str) -> Result<()> {
    let (threads, turns): (u32, u32) = (threads.parse()?, turns.parse()?);
    let workers: Vec<_> = (0..threads)
        .map(|_| thread::spawn(move || worker(turns)))
        .collect();
    let mut all = Counts::default();
    for worker in workers {
        let counts = worker
            .join()
            .map_err(|_panic| anyhow::anyhow!("a thread panicked"))??;
        all.denied += counts.denied;
        all.killed += counts.killed;
        all.ran += counts.ran;
    }
    protocol::write_stdout(&format!("{MARK}{}\n", serde_json::to_string(&all)?));
    Ok(())
}

pub(crate) fn parse(output: &str) -> Result<Counts> {
    let line = output.lines().find_map(|line| line.strip_prefix(MARK));
    Ok(serde_json::from_str(line.context("no counts")?)?)
}

fn worker(turns: u32) -> Result<Counts> {
    let mut counts = Counts::default();
    for _ in 0..turns {
        let denied = Command::new("/usr/bin/whoami")
            .stdin(Stdio::null())
            .output();
        match denied {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => counts.denied += 1,
            Ok(output)
                if process::signal_of(output.status) == Some(libc::SIGKILL)
                    && output.stdout.is_empty() =>
            {
                counts.killed += 1;
            }
            other => bail!("a denied program: {other:?}"),
        }
        let other = Command::new("/usr/bin/id").arg("-u").output()?;
        if !other.status.success() || other.stdout != b"0\n" {
            bail!("another program: {other:?}");
        }
        counts.ran += 1;
    }
    Ok(counts)
}
