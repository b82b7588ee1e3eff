//! `execblock unload`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use execblock::{bind::Binder, setup::Setup};

use super::{Failure, setup_failure};
use crate::events;

/// Remove programs, maps and all rules: nothing is refused any more.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
pub(crate) fn run(_args: Args) -> Result<ExitCode, Failure> {
    if let Ok(binder) = Binder::new() {
        events::keep(&binder);
    }
    if Setup::default().unload().map_err(setup_failure)? {
        println!("unloaded");
    } else {
        println!("nothing was loaded");
    }
    Ok(ExitCode::SUCCESS)
}
