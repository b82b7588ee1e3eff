//! Tests of execblock on real kernels: PID 1 of a throw-away virtual machine and its cases.
//!
//! `cargo xtask vm` boots the machine. It has a Debian userland, the command under test at
//! `/payload/execblock` and this program at `/payload/vmtest`, and says on its kernel command line
//! which kernel and userland it is. What happens is printed line by line (see [`protocol`]).
//!
//! Each case asserts the refusal itself (the exec failed with `EPERM`, or the process died of
//! `SIGKILL`), and that a twin which must work does.

mod background;
mod bpf;
mod cases;
mod cgroup;
mod containerd;
mod cri_client;
mod crictl;
mod demo;
mod execblock;
mod harness;
mod kubelet;
mod machine;
mod mounts;
mod oci_image;
mod private;
mod probe;
mod process;
mod protocol;
mod quickstart;
mod soak;
mod storm;
mod systemd;
mod tamper;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::machine::Machine;

const USAGE: &str = "\
usage: execblock-vmtest --list [KERNEL USERLAND FILTER]
       execblock-vmtest --evasion
       execblock-vmtest demo EXECBLOCK
       execblock-vmtest soak EXECBLOCK CONTAINERS SECONDS
As PID 1 of a machine that `cargo xtask vm` boots it runs the cases.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The kernel hands words of its command line that it does not know to PID 1.
    if rustix::process::getpid().is_init() {
        return systemd::instead_of(harness::init);
    }
    match other(&args) {
        Ok(code) => code,
        Err(error) => {
            protocol::write_stdout(&format!("{error:#}\n"));
            ExitCode::from(2)
        }
    }
}

fn other(args: &[String]) -> Result<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [systemd::RUN] => return Ok(harness::init()),
        ["--list"] => list(&Machine::parse(
            "execblock.kernel=6.12 execblock.userland=trixie",
        )?),
        ["--list", kernel, userland, filter] => list(&Machine::parse(&format!(
            "execblock.kernel={kernel} execblock.userland={userland} execblock.filter={filter}"
        ))?),
        ["--evasion"] => {
            let rows = serde_json::to_string(&cases::evasion::describe())?;
            protocol::write_stdout(&format!("{rows}\n"));
        }
        ["demo", execblock] => demo::run(execblock)?,
        ["soak", execblock, containers, seconds] => {
            soak::run(execblock, containers.parse()?, seconds.parse()?)?;
        }
        ["crictl", ref words @ ..] => crictl::main(words)?,
        ["case", name, cgroup_procs] => harness::case_process(name, cgroup_procs)?,
        ["probe", steps] => probe::main(steps)?,
        ["storm", threads, turns] => storm::main(threads, turns)?,
        ["tamper", target] => tamper::main(target)?,
        ["probe-when-told", steps] => probe::main_when_told(steps)?,
        ["probe-thread", path] => {
            return Ok(ExitCode::from(u8::try_from(probe::main_in_thread(path)?)?));
        }
        _ => bail!("{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(machine: &Machine) {
    for case in cases::for_machine(machine) {
        protocol::write_stdout(&format!("{}\n", case.name));
    }
}
