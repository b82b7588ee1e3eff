//! Runtime wrapper: stands in front of an OCI runtime, binds annotated
//! containers before their first program runs, and is invisible otherwise.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use execblock_hooks::{logger, wrapper};

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    logger::init("execblock-runc");
    // Closed: a panic refuses what was asked for.
    let status = catch_unwind(AssertUnwindSafe(|| wrapper::run(&argv)));
    status.map_or(ExitCode::FAILURE, ExitCode::from)
}
