//! Measures execblock on this machine's kernel; `cargo xtask bench` builds and calls it. What
//! it finds is one line of JSON; what it does meanwhile goes to standard error.

mod bare;
mod bind;
mod bound;
mod exec;
mod hooks;
mod kernel;
mod series;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::bound::Policies;
use crate::hooks::Programs;

/// Measures execblock on this machine's kernel
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// From `StartContainer` to its answer, and what the daemon takes, by bound containers
    Bind {
        /// The command `execblock`
        execblock: PathBuf,
        /// Containers that are bound before
        #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000, 10_000])]
        bound: Vec<usize>,
        /// Measurements at each
        #[arg(long, default_value_t = 300)]
        runs: usize,
        /// So many different policies
        #[arg(long, default_value_t = 1)]
        policies: usize,
        /// Names that each of them has
        #[arg(long, default_value_t = 3)]
        rules: usize,
    },
    /// What an exec takes, without our programs and with them
    Exec {
        /// The command `execblock`
        execblock: PathBuf,
        /// How often each situation is measured
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Execs of one measurement
        #[arg(long, default_value_t = 500)]
        execs: usize,
    },
    /// What hook and wrapper add to a container's start
    Hooks {
        /// The folder of the programs
        programs: PathBuf,
        /// Needed for the wrapper
        #[arg(long)]
        runc: Option<PathBuf>,
        /// A static `BusyBox`, needed for the wrapper
        #[arg(long)]
        busybox: Option<PathBuf>,
        /// Containers that are bound before
        #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000, 10_000])]
        bound: Vec<usize>,
        /// Measurements of each kind
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// As many execs in a cgroup, for `exec`
    Loop {
        /// That many
        execs: u32,
        /// The file that processes of the cgroup are written to
        cgroup: PathBuf,
    },
    /// What the clock says, for `bind`
    Now,
    /// A plugin that does nothing, to compare with
    Bare {
        /// The runtime's socket
        socket: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(what: &What) -> Result<()> {
    let found = match what {
        What::Bind {
            execblock,
            bound,
            runs,
            policies,
            rules,
        } => {
            let (policies, rules) = (*policies, *rules);
            bind::measure(execblock, bound, *runs, Policies { policies, rules })?
        }
        What::Exec {
            execblock,
            rounds,
            execs,
        } => exec::measure(execblock, *rounds, *execs)?,
        What::Loop { execs, cgroup } => exec::looped(*execs, cgroup)?.into(),
        What::Now => bind::now().into(),
        What::Hooks {
            programs,
            runc,
            busybox,
            bound,
            runs,
        } => {
            let programs = Programs {
                ours: programs,
                runc: runc.as_deref(),
                busybox: busybox.as_deref(),
            };
            hooks::measure(&programs, bound, *runs)?
        }
        What::Bare { socket } => return bare::run(socket),
    };
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!("{found}");
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "for who waits")]
fn progress(line: &str) {
    eprintln!("{line}");
}

/// Runs it to its end; what it says is seen where it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    Ok(())
}
