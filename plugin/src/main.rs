//! The command `execblock`: parses the command line, calls one file of `cli`,
//! turns errors into messages and exit statuses.

mod cli;
mod daemon;
mod engines;
mod events;
mod inject;
mod installed;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod logging;
mod memory;
mod metrics;
mod nri;
mod service;
mod settings;

use std::process::ExitCode;

use crate::cli::{Cli, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse_or_plugin();
    // The daemon's log has a form that its settings say.
    if !cli.is_daemon() {
        logging::start(logging::Format::Text, "warn");
    }
    match cli.run() {
        Ok(status) => status,
        Err(Failure { message, status }) => {
            logging::last_words(&message);
            ExitCode::from(status)
        }
    }
}
