//! `execblock setup` on the configuration of the userland's containerd, which then reads it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Result, ensure};

use super::Case;
use crate::containerd;
use crate::execblock;
use crate::process;
use crate::protocol;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("setup/containerd", |_| with_containerd()),
        Case::new("setup/install", |_| install()),
    ]
}

/// What a pod puts on its node: programs that work there, and what the hook reads there.
fn install() -> Result<()> {
    let dir = Path::new("/tmp/install");
    let (prefix, etc, from) = (dir.join("usr/local"), dir.join("etc"), dir.join("from"));
    fs::create_dir_all(&from)?;
    fs::write(from.join("config.toml"), "[nri]\ninject_hook = true\n")?;
    let [said_prefix, said_etc, said_from] =
        [&prefix, &etc, &from].map(|path| path.display().to_string());
    let words = [
        "install",
        "--prefix",
        &said_prefix,
        "--etc",
        &said_etc,
        "--from",
        &said_from,
    ];
    // And again, in the place of programs that may run.
    for _ in 0..2 {
        execblock::run(&words)?.success()?;
    }
    for (name, place) in [
        ("execblock", "bin"),
        ("execblock-runc", "bin"),
        ("execblock-hook", "libexec/execblock"),
    ] {
        let installed = prefix.join(place).join(name);
        let mode = fs::metadata(&installed)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o755, "{}: mode {mode:o}", installed.display());
        let same = fs::read(&installed)? == fs::read(Path::new("/payload").join(name))?;
        ensure!(same, "{} is another program", installed.display());
    }
    let installed = prefix.join("bin/execblock");
    process::run(process::command(installed).arg("--version"))?.success()?;
    ensure!(
        fs::read_to_string(etc.join("config.toml"))?.contains("inject_hook"),
        "no settings"
    );
    Ok(())
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
