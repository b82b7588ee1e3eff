//! `execblock load`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use execblock::{
    kernel::Capacity,
    setup::{Loaded, Options, Setup},
};

use super::{Failure, MechanismArg, setup_failure};

/// Pin programs and maps, so that rules hold without any process of ours.
///
/// Loading twice is harmless. The mechanism is proven: a denied program must be
/// refused, another must not.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// auto takes the first that works of lsm, fmod_ret, kprobe, signal.
    #[arg(long, default_value = "auto", value_name = "MECHANISM")]
    mechanism: MechanismArg,
    /// Containers that can be bound at once.
    #[arg(long, value_name = "N", default_value_t = Capacity::default().containers)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    max_containers: u32,
    /// Entries of the rules map: one a name, a few a path.
    #[arg(long, value_name = "N", default_value_t = Capacity::default().rules)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    max_rules: u32,
}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let options = Options {
        choice: args.mechanism.0,
        capacity: Capacity {
            containers: args.max_containers,
            rules: args.max_rules,
        },
        transient: false,
    };
    match Setup::default().load(options).map_err(setup_failure)? {
        Loaded::New(mechanism, seen) => {
            println!("{mechanism}: loaded; a denied program was {seen}");
        }
        Loaded::Already(mechanism) => println!("{mechanism}: loaded before"),
    }
    Ok(ExitCode::SUCCESS)
}
