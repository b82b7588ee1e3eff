//! The command `execblock`: parses the command line, calls one file of `cli`,
//! turns errors into messages and exit statuses.

mod cli;
mod daemon;
mod engines;
mod events;
mod nri;
mod settings;

use std::process::ExitCode;

use crate::cli::{Cli, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse_or_plugin();
    let default = if cli.is_daemon() { "info" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("EXECBLOCK_LOG", default))
        .format_timestamp_millis()
        .format_target(false)
        .init();
    match cli.run() {
        Ok(status) => status,
        Err(Failure { message, status }) => {
            #[expect(clippy::print_stderr, reason = "this is where errors go")]
            {
                eprintln!("execblock: {message}");
            }
            ExitCode::from(status)
        }
    }
}
