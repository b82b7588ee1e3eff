//! Podman of an ordinary user. Its hook runs in the user's namespace and can't write root's maps,
//! so an annotated container is refused; others are none of our business.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{HOOKS, image, install_hook, is_not_started};
use crate::cases::engine::LIMIT;
use crate::containerd::IMAGE;
use crate::execblock;
use crate::machine::Machine;
use crate::process::{self, Output};

const USER: &str = "rootless";
const UID: &str = "1000";
const RUN_DIR: &str = "/run/user/1000";

pub(super) fn case(machine: &Machine) -> Result<()> {
    execblock::loaded(machine.kernel.preferred())?;
    install_hook()?;
    make_user()?;
    let archive = image()?;
    podman("crun", &["load", "--quiet", "--input", archive])?.success()?;
    let before = (ours()?, execblock::bound_cgroups()?);
    let plain = run("crun", &["--rm", "--entrypoint", "whoami", IMAGE])?;
    ensure!(plain.success()?.stdout == "root\n", "whoami did not run");
    for runtime in ["crun", "runc"] {
        let annotated = ["--rm", "--annotation", "execblock/deny=whoami", IMAGE];
        is_not_started(&run(runtime, &annotated)?, &["execblock/deny", "as root"])?;
    }
    ensure!(
        before == (ours()?, execblock::bound_cgroups()?),
        "left behind: {}, before: {}",
        ours()?,
        before.0
    );
    Ok(())
}

fn run(runtime: &str, args: &[&str]) -> Result<Output> {
    podman(runtime, &[&["run", "--network", "none"], args].concat())
}

fn podman(runtime: &str, args: &[&str]) -> Result<Output> {
    process::run_within(
        as_user("podman")
            .args(["--cgroup-manager", "cgroupfs", "--runtime", runtime])
            .args(["--hooks-dir", HOOKS])
            .args(args),
        2 * LIMIT,
    )
}

fn as_user(program: &str) -> Command {
    let mut command = process::command("setpriv");
    command
        .args(["--reuid", UID, "--regid", UID, "--init-groups", program])
        .env("HOME", format!("/home/{USER}"))
        .env("USER", USER)
        .env("XDG_RUNTIME_DIR", RUN_DIR)
        .current_dir("/");
    command
}

/// With ids of its own to hand out, which `useradd` gives it where `newuidmap` is installed.
fn make_user() -> Result<()> {
    if !Path::new("/home").join(USER).exists() {
        process::run(process::command("useradd").args(["--create-home", "--uid", UID, USER]))?
            .success()?;
    }
    fs::create_dir_all(RUN_DIR)?;
    let id = UID.parse()?;
    chown(RUN_DIR, Some(id), Some(id))?;
    Ok(fs::set_permissions(
        RUN_DIR,
        fs::Permissions::from_mode(0o700),
    )?)
}

/// All that is ours and could be left behind: records, locks, files of our name.
fn ours() -> Result<String> {
    let mut find = process::command("find");
    find.args([
        "/run/execblock",
        RUN_DIR,
        "/tmp",
        "/home",
        "/run/containers",
    ]);
    find.args([
        "(",
        "-path",
        "/run/execblock*",
        "-o",
        "-name",
        "*execblock*",
        ")",
    ]);
    Ok(process::run(find.args(["-printf", "%p %s %T@\n"]))?
        .success()?
        .stdout)
}
