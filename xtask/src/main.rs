//! The build and test tool of this repository, run as `cargo xtask`: what a
//! shell script or a makefile would do, with types and tests.
#![expect(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod bench;
mod dist;
mod ebpf;
mod fuzz;
mod host;
mod image;
mod object_file;
mod pages;
mod rust_src;
mod soak;
mod test;
mod tidy;
mod translation;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the eBPF object that the engine embeds
    Ebpf(ebpf::Arguments),
    /// Run the guest's test cases in virtual machines
    Vm(vm::Arguments),
    /// Run the tests that each change must pass: this machine's and the virtual machines'
    Test(test::Arguments),
    /// Start many containers of a real containerd on this machine
    Soak(soak::Arguments),
    /// Run the fuzz targets for a while
    Fuzz(fuzz::Arguments),
    /// Measure what execblock costs
    Bench(bench::Arguments),
    /// Make execblock's own container image
    Image(image::Arguments),
    /// Build what is released, into target/dist
    Dist(dist::Arguments),
    /// Check what no compiler checks: layering, file lengths, documents
    Tidy,
}

fn main() -> ExitCode {
    if let Some(code) = ebpf::wrapped_rustc() {
        return code;
    }
    let done = match Arguments::parse().command {
        Command::Ebpf(arguments) => ebpf::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Tidy => tidy::run(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
