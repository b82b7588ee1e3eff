//! `cargo xtask soak`: many containers of a real containerd on this machine's kernel.
//! What is asserted stands in `tests/src/soak.rs`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{host, vm};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Containers that run at a time
    #[arg(long, default_value_t = 200)]
    containers: usize,
    /// How long containers come and go
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

const NEEDED: [host::Needed; 3] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("bpftool", "bpftool"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    if !host::is_root() {
        bail!("containers and eBPF need root: run it as root");
    }
    host::require(&NEEDED)?;
    if !host::has_own_mounts() {
        return host::in_own_mounts(std::env::args_os().skip(1));
    }
    let programs = vm::programs()?;
    let status = Command::new(programs.join("execblock-vmtest"))
        .arg("soak")
        .arg(programs.join("execblock"))
        .arg(arguments.containers.to_string())
        .arg(arguments.seconds.to_string())
        .status()?;
    Ok(status.success())
}
