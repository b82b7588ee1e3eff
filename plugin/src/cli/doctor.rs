//! `execblock doctor`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use execblock::probe::{Answer, Report, examine};

use super::{DONE, Failure, KERNEL};

/// Check what this machine can do: try each mechanism, and say what to do next.
///
/// Exit status 3 where no mechanism works.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let report = examine();
    if args.json {
        print_json(&report)?;
    } else {
        print_text(&report);
    }
    Ok(ExitCode::from(if report.auto.is_some() {
        DONE
    } else {
        KERNEL
    }))
}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
fn print_json(report: &Report) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
fn print_text(report: &Report) {
    println!("kernel {}", report.kernel);
    for check in &report.checks {
        println!(
            "  {:<16} {:<8} {}",
            check.name,
            word(check.answer),
            check.reason
        );
    }
    println!("mechanisms, tried with a denied program and one that is not");
    for one in &report.mechanisms {
        println!(
            "  {:<16} {:<8} {}",
            one.name,
            word(one.available),
            one.reason
        );
    }
    match report.auto {
        Some(auto) => println!("auto takes {auto}"),
        None => println!("nothing works here"),
    }
    println!("next: {}", report.next_step);
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Unknown => "unknown",
    }
}
