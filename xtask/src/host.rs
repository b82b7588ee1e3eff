//! What the subcommands ask of the machine they run on: the checkout's folders,
//! programs that must be installed, and running them with errors that say what
//! ran.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The checkout: this crate's folder is its direct child.
pub(crate) fn checkout() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// Cargo's own target directory, wherever the user has put it.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let json = output(
        cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(checkout()),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&json).context("cargo metadata")?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo metadata has no target_directory")?;
    Ok(folder.into())
}

pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs the command with its output on ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| described(command))?;
    if !status.success() {
        bail!("{}: {status}", described(command));
    }
    Ok(())
}

/// Runs the command silently, and shows what it said when it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs the command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| described(command))?;
    if !done.status.success() {
        bail!(
            "{}: {}\n{}{}",
            described(command),
            done.status,
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn described(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>();
    words.join(" ")
}

/// Finds a program on the path, or where administrators' programs are, which
/// an ordinary user's path leaves out.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A command for a program that [`require`] has found.
pub(crate) fn program(name: &str) -> Command {
    Command::new(find_program(name).unwrap_or_else(|| name.into()))
}

/// A program and the Debian package that has it.
pub(crate) type Needed = (&'static str, &'static str);

/// Fails with the one command that installs every missing program.
pub(crate) fn require(needed: &[Needed]) -> Result<()> {
    let missing = missing_packages(needed);
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "programs are missing; install them with\n    {}",
        install_line(&missing)
    );
}

pub(crate) fn missing_packages(needed: &[Needed]) -> Vec<&'static str> {
    let mut packages = needed
        .iter()
        .filter(|(name, _)| find_program(name).is_none())
        .map(|(_, package)| *package)
        .collect::<Vec<_>>();
    packages.sort_unstable();
    packages.dedup();
    packages
}

pub(crate) fn install_line(packages: &[&str]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get install --yes {}", packages.join(" "))
}

/// Whether we run as root: the owner of our own entry in /proc is our user.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// Set where this process has mounts of its own.
const OWN_MOUNTS: &str = "EXECBLOCK_OWN_MOUNTS";

pub(crate) fn has_own_mounts() -> bool {
    env::var_os(OWN_MOUNTS).is_some()
}

/// This program again with these arguments, an empty BPF file system and an empty /run,
/// so that nobody's pins and records are in the way. Whether it succeeded.
pub(crate) fn in_own_mounts(arguments: impl Iterator<Item = OsString>) -> Result<bool> {
    require(&[("unshare", "util-linux"), ("mount", "mount")])?;
    let script = "mount -t bpf bpf /sys/fs/bpf && mount -t tmpfs tmpfs /run && exec \"$@\"";
    let status = program("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-c", script, "sh"])
        .arg(env::current_exe()?)
        .args(arguments)
        .env(OWN_MOUNTS, "1")
        .status()
        .context("unshare")?;
    Ok(status.success())
}
