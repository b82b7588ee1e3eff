//! install.sh with programs that are built, under systemd: what it would do, doing it, doing it again
//! as an upgrade, the first container after a boot, and taking it away.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::storm::Storm;
use super::{
    PACKAGE, as_of_another_build, build, is_installed, nothing_is_left, nothing_of_others, run,
    says, snapshot, systemctl, units_are_on,
};
use crate::containerd::{self, IMAGE};
use crate::execblock::{self, PINS};
use crate::process::{self, Output};
use crate::protocol;

const PROGRAM: &str = "/usr/local/bin/execblock";
const CONTAINER: &str = "first";
const BOOT: &str = "vmtest-boot.target";
const BOOT_TEXT: &str =
    "[Unit]\nWants=podman-restart.service execblock.service execblock-load.service\n";

/// Gone with the case, also where it failed.
struct Uninstalled;

impl Drop for Uninstalled {
    fn drop(&mut self) {
        drop(podman(&[
            "rm", "--force", "--ignore", "--time", "0", CONTAINER,
        ]));
        drop(script(&["--uninstall", "--yes"]));
    }
}

fn script(args: &[&str]) -> Result<Output> {
    let mut script = process::command(format!("{PACKAGE}/install.sh"));
    run(script.args(args))
}

fn install(args: &[&str]) -> Result<Output> {
    script(&[&["--from", "/payload"], args].concat())
}

fn podman(args: &[&str]) -> Result<Output> {
    process::run(process::command("podman").args(args))
}

pub(super) fn case() -> Result<()> {
    execblock::unloaded()?;
    nothing_of_others()?;
    // Podman writes files of its own into /etc when it first looks for networks.
    podman(&["network", "ls"])?.success()?;
    let before = snapshot()?;
    let _uninstalled = Uninstalled;
    says(
        &install(&["--dry-run"])?.success()?,
        &["/usr/local/bin/execblock", "systemctl enable"],
    )?;
    nothing_is_left(&before)?;
    let said = install(&[])?.success()?;
    says(&said, &["auto takes", "execblock setup"])?;
    units_are_on()?;
    process::run(process::command(PROGRAM).args(["setup", "podman"]))?.success()?;
    create()?;
    booted()?;

    let mut storm = Storm::begin(PROGRAM)?;
    let own = as_of_another_build()?;
    let (_, refused) = storm.during(|| install(&[])?.success())?;
    protocol::note(format_args!("{refused} refusals during an upgrade"));
    ensure!(build()? == own, "the programs were not replaced");
    is_refused()?;

    let (asked, _) = storm.during(|| script(&["--uninstall"]))?;
    ensure!(!asked.status.success(), "it did not ask");
    says(&asked, &["--yes"])?;
    let (said, _) = storm.during(|| script(&["--uninstall", "--dry-run"])?.success())?;
    says(&said, &["unload", "podman"])?;
    ensure!(is_installed(PROGRAM), "a dry run removed it");
    script(&["--uninstall", "--yes"])?.success()?;
    storm.gets_through()?;
    // Once more there is little to do: the storm's `execblock run` has written its last lines.
    script(&["--uninstall"])?.success()?;
    nothing_is_left(&before)
}

/// A container that Podman starts again at each boot, as `podman-restart.service` does it.
fn create() -> Result<()> {
    if podman(&["image", "exists", IMAGE])?.code() != Some(0) {
        fs::create_dir_all("/run/vmtest")?;
        let path = "/run/vmtest/install.tar";
        containerd::write_image(path)?;
        podman(&["load", "--quiet", "--input", path])?.success()?;
        fs::remove_file(path)?;
    }
    let rule = "execblock/deny=whoami";
    podman(&[
        "create",
        "--name",
        CONTAINER,
        "--restart=always",
        "--network=none",
        "--annotation",
        rule,
        "--entrypoint",
        r#"["/bin/sleep","1000000"]"#,
        IMAGE,
    ])?
    .success()
    .map(drop)
}

/// What a boot finds, and what it starts at a time.
fn booted() -> Result<()> {
    systemctl(&["stop", "execblock.service"])?.success()?;
    // On Debian 12 and Ubuntu 24.04 this machine's boot has started it. It has nothing to stop,
    // which is an error to it.
    systemctl(&["stop", "podman-restart.service"])?;
    process::run(process::command(PROGRAM).arg("unload"))?.success()?;
    ensure!(!Path::new(PINS).exists(), "the pins are there");
    let wants = "/etc/systemd/system/multi-user.target.wants";
    for unit in ["execblock-load.service", "execblock.service"] {
        ensure!(
            Path::new(wants).join(unit).exists(),
            "no boot starts {unit}"
        );
    }
    // In one transaction, as at a boot: jobs that come one after the other are not ordered.
    let target = Path::new("/run/systemd/system").join(BOOT);
    fs::write(&target, BOOT_TEXT)?;
    systemctl(&["daemon-reload"])?.success()?;
    systemctl(&["start", BOOT])?.success()?;
    let started = systemctl(&["is-active", "podman-restart.service"])?;
    if !started.status.success() {
        let mut journal = process::command("journalctl");
        run(journal.args(["--no-pager", "--lines=30"]))?;
        bail!("podman-restart.service: {}", started.said());
    }
    fs::remove_file(target)?;
    is_refused()
}

fn is_refused() -> Result<()> {
    let denied = podman(&["exec", CONTAINER, "whoami"])?;
    ensure!(!denied.status.success(), "it ran: {}", denied.said());
    says(&denied, &["not permitted"])?;
    let other = podman(&["exec", CONTAINER, "id", "-u"])?.success()?;
    ensure!(other.stdout == "0\n", "id said {}", other.said());
    Ok(())
}
