//! `execblock setup` on the configuration of the userland's containerd, which then reads it.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::Case;
use crate::containerd;
use crate::execblock;
use crate::process;
use crate::protocol;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("setup/containerd", |_| with_containerd())]
}

/// Our runtime beside one that was there, and all as before after its removal.
fn with_containerd() -> Result<()> {
    let dir = Path::new("/tmp/setup");
    fs::create_dir_all(dir.join("conf.d"))?;
    let main = dir.join("config.toml");
    let major = containerd::major_version()?;
    let version = if major < 2 { 2 } else { 3 };
    let plugin = containerd::cri_plugin(major);
    let other = format!("[plugins.\"{plugin}\".containerd.runtimes.other]");
    let text = format!(
        "version = {version}\nimports = [\"{}/conf.d/*.toml\"]\n\n{other}\n  runtime_type = \
         \"io.containerd.runc.v2\"\n",
        dir.display()
    );
    fs::write(&main, &text)?;
    let config = main.display().to_string();
    let setup = ["setup", "containerd", "--config", &config];
    protocol::note(execblock::run(&setup)?.success()?.stdout.trim_end());
    let dump = dump(&config)?;
    for part in [
        "runtimes.other]",
        "runtimes.execblock]",
        "/payload/execblock-runc",
        "execblock/*",
    ] {
        ensure!(
            dump.contains(part),
            "no {part} in what containerd reads: {dump}"
        );
    }
    let drop_in = dir.join("conf.d/90-execblock.toml");
    ensure!(
        drop_in.exists() == (version == 3),
        "drop-in of version {version}"
    );
    let again = execblock::run(&setup)?.success()?;
    ensure!(again.stdout == "nothing to change\n", "{}", again.said());
    execblock::run(&[&setup[..], &["--remove"]].concat())?.success()?;
    ensure!(
        fs::read_to_string(&main)? == text && !drop_in.exists(),
        "something is left"
    );
    Ok(())
}

/// What containerd makes of its files.
fn dump(config: &str) -> Result<String> {
    let mut containerd = process::command("containerd");
    let dump = process::run_unseen(containerd.args(["--config", config, "config", "dump"]))?;
    Ok(dump.success()?.stdout)
}
