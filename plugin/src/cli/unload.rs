//! `execblock unload`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use execblock::setup::Setup;

use super::{Failure, setup_failure};

/// Remove programs, maps and all rules: nothing is refused any more.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
pub(crate) fn run(_args: Args) -> Result<ExitCode, Failure> {
    if Setup::default().unload().map_err(setup_failure)? {
        println!("unloaded");
    } else {
        println!("nothing was loaded");
    }
    Ok(ExitCode::SUCCESS)
}
