//! `execblock manual`: the manual pages, for whoever packages execblock.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{Args as ClapArgs, CommandFactory as _};

use super::{Cli, FAILED, Failure};

/// Write the manual pages, one for each command.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The directory; it is made where it is not there.
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error| Failure::new(FAILED, format!("{}: {error}", args.dir.display()));
    fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
