//! `execblock completions`: what a shell completes our words by.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure};

/// Print the script by which a shell completes the words of execblock.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock completions bash > /usr/share/bash-completion/completions/execblock
  execblock completions zsh > /usr/share/zsh/vendor-completions/_execblock
  execblock completions fish > /usr/share/fish/vendor_completions.d/execblock.fish")]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // Whole, and then written: a reader that goes away is no panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "execblock", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
