//! The subcommands, one a file.

mod change;
mod completions;
mod doctor;
mod events;
mod groups;
mod install;
mod lint;
mod load;
mod manual;
mod nri;
mod run;
mod setup;
mod status;
mod target;
mod unload;
mod why;

use std::{fmt::Display, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use execblock::{
    clock,
    kernel::Mechanism,
    setup::{Choice, SetupError},
};

/// Done.
pub(crate) const DONE: u8 = 0;
/// Failed; the message says why.
pub(crate) const FAILED: u8 = 1;
/// The command line was not understood.
pub(crate) const USAGE: u8 = 2;
/// This kernel can't.
pub(crate) const KERNEL: u8 = 3;

/// Say which programs a container must not execute; the kernel refuses them.
#[derive(Debug, Parser)]
#[command(name = "execblock", version, arg_required_else_help = true)]
#[command(after_help = "\
Begin with execblock doctor; execblock COMMAND --help has examples.
Exit status: 0 done, 1 failed, 2 usage, 3 this kernel can't.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Deny(change::Deny),
    Allow(change::Allow),
    Clear(change::Clear),
    Status(status::Args),
    Events(events::Args),
    Why(why::Args),
    Lint(lint::Args),
    Groups(groups::Args),
    Doctor(doctor::Args),
    Setup(setup::Args),
    Install(install::Args),
    Load(load::Args),
    Unload(unload::Args),
    Nri(nri::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Manual(manual::Args),
}

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) status: u8,
}

impl Failure {
    pub(crate) fn new(status: u8, message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            status,
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(FAILED, error)
    }
}

/// 3 where the kernel is the reason, and the next step.
pub(crate) fn setup_failure(error: SetupError) -> Failure {
    match error {
        // Of the kernel nothing is known yet.
        SetupError::NothingWorks(_) | SetupError::Kernel(_) | SetupError::Cgroup(_)
            if !rustix::process::geteuid().is_root() =>
        {
            Failure::new(FAILED, error)
        }
        SetupError::NothingWorks(_) | SetupError::Kernel(_) | SetupError::Cgroup(_) => {
            let old = execblock::release::too_old();
            let old = old.map(|reason| format!("\n{reason}")).unwrap_or_default();
            Failure::new(
                KERNEL,
                format!("{error}{old}\nexecblock doctor tells what is missing"),
            )
        }
        error => Failure::new(FAILED, error),
    }
}

/// `--mechanism`
#[derive(Clone, Copy, Debug)]
pub(crate) struct MechanismArg(pub(crate) Choice);

impl std::str::FromStr for MechanismArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self(Choice::Auto));
        }
        text.parse::<Mechanism>()
            .map(Choice::One)
            .map(Self)
            .map_err(|_unknown| {
                format!(
                    "unknown mechanism {text:?}, expected auto, lsm, fmod_ret, kprobe or signal"
                )
            })
    }
}

impl Cli {
    /// The command line; a runtime that starts us as its plugin gives none.
    pub(crate) fn parse_or_plugin() -> Self {
        if nri::started_as_plugin() {
            return Self::parse_from(["execblock", "nri"]);
        }
        Self::parse()
    }

    /// Whether it is the daemon, which sets its log up by itself.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self.command, Command::Nri(_))
    }

    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        // What is missing then is told in many ways, of which few name the reason.
        let wants_root = self.command.wants_root() && !rustix::process::geteuid().is_root();
        self.command.run().map_err(|mut failure| {
            if wants_root && failure.status != USAGE {
                failure.message += "\nthis is not root: try it with sudo";
            }
            failure
        })
    }
}

impl Command {
    /// Whether little can be done without.
    fn wants_root(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Deny(_)
                | Self::Allow(_)
                | Self::Clear(_)
                | Self::Status(_)
                | Self::Events(_)
                | Self::Load(_)
                | Self::Unload(_)
                | Self::Nri(_)
        )
    }

    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Run(args) => run::run(&args),
            Self::Deny(args) => change::deny(&args),
            Self::Allow(args) => change::allow(&args),
            Self::Clear(args) => change::clear(&args),
            Self::Status(args) => status::run(&args),
            Self::Events(args) => events::run(&args),
            Self::Why(args) => why::run(&args),
            Self::Lint(args) => lint::run(&args),
            Self::Groups(args) => groups::run(&args),
            Self::Doctor(args) => doctor::run(&args),
            Self::Setup(args) => setup::run(&args),
            Self::Install(args) => install::run(&args),
            Self::Load(args) => load::run(&args),
            Self::Nri(args) => nri::run(&args),
            Self::Unload(args) => unload::run(args),
            Self::Completions(args) => completions::run(&args),
            Self::Manual(args) => manual::run(&args),
        }
    }
}

/// An instant of the kernel side's clock as the time of day: RFC 3339, seconds.
pub(crate) fn time(instant: u64) -> String {
    humantime::format_rfc3339_seconds(clock::time_of_day(instant)).to_string()
}

/// Nanoseconds as people say them: `9m 58s`.
pub(crate) fn span(nanoseconds: u64) -> String {
    let seconds = Duration::from_nanos(nanoseconds).as_secs();
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
