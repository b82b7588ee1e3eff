//! `execblock load`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use execblock::setup::{Loaded, Options, Replace, Setup};

use super::{Failure, MechanismArg, setup_failure};
use crate::events;

/// Pin programs and maps, so that rules hold without any process of ours.
///
/// Loading twice is harmless. Programs that an older version loaded are replaced, and
/// there is no instant in which nothing refuses. The mechanism is proven: a denied program must be
/// refused, another must not.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock load
  execblock load --replace --max-containers 65536")]
pub(crate) struct Args {
    /// auto takes the first that works of lsm, fmod_ret, kprobe, signal.
    #[arg(long, default_value = "auto", value_name = "MECHANISM")]
    mechanism: MechanismArg,
    /// Containers that can be bound at once: 16384, or as many as before.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    max_containers: Option<u32>,
    /// Entries of the rules map, one a name, a few a path: 65536, or as many as before.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    max_rules: Option<u32>,
    /// Replace what is loaded also where it is of this version, as for another
    /// mechanism or capacity. Rules hold meanwhile.
    #[arg(long)]
    replace: bool,
}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let options = Options {
        choice: args.mechanism.0,
        containers: args.max_containers,
        rules: args.max_rules,
        transient: false,
        replace: if args.replace {
            Replace::Always
        } else {
            Replace::Outdated
        },
        retiring: &events::keep_those_of,
    };
    match Setup::default().load(&options).map_err(setup_failure)? {
        Loaded::New(mechanism, seen) => {
            println!("{mechanism}: loaded; a denied program was {seen}");
        }
        Loaded::Replaced {
            mechanism,
            seen,
            containers,
        } => println!(
            "{mechanism}: loaded in the place of what was there, {containers} containers bound; a \
             denied program was {seen}"
        ),
        Loaded::Already(mechanism) => println!("{mechanism}: loaded before"),
    }
    Ok(ExitCode::SUCCESS)
}
