//! OCI hook: binds an annotated container before its first program runs, and
//! forgets it when it has stopped. Exit status 1 refuses the container.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use execblock_hooks::{
    caller,
    hook::{self, Done},
    logger,
};

const HELP: &str = "\
execblock-hook: OCI hook for the stages createRuntime and poststop

Reads the container's state from standard input, as OCI runtimes give it to
their hooks. Takes no arguments but --help and --version.

Exit status: 0 done, or no annotation of ours; 1 the container must not start.
";

fn main() -> ExitCode {
    // hooks.d files may give arguments; the state says all that is needed.
    match std::env::args_os()
        .nth(1)
        .as_deref()
        .and_then(|one| one.to_str())
    {
        Some("--help" | "-h") => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Some("--version" | "-V") => {
            say(concat!("execblock-hook ", env!("CARGO_PKG_VERSION"), "\n"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    logger::init("execblock-hook");
    // Closed: the status of a panic would do, but is not ours to define.
    match catch_unwind(AssertUnwindSafe(|| hook::run(io::stdin().lock()))) {
        Ok(Ok(Done::Stopped(Some(left)))) => {
            // Open for the engine: it is collected later.
            complain(&left.to_string());
            ExitCode::SUCCESS
        }
        Ok(Ok(_)) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            complain(&error.to_string());
            caller::tell(&line(&error.to_string()));
            ExitCode::FAILURE
        }
        Err(_panic) => ExitCode::FAILURE,
    }
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn say(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "where runtimes look for reasons")]
fn complain(text: &str) {
    eprintln!("{}", line(text));
}

/// One line: engines show the last one.
fn line(text: &str) -> String {
    format!("execblock-hook: {}", text.replace('\n', " "))
}
