//! Measures execblock on this machine's kernel; `cargo xtask bench` builds and calls it. What
//! it finds is one line of JSON; what it does meanwhile goes to standard error.

mod bare;
mod bind;
mod series;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    },
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
        } => bind::measure(execblock, bound, *runs)?,
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
