//! A machine whose PID 1 is systemd: this program starts as PID 1 all the same, tells systemd to run
//! it as its only service, and becomes systemd.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::machine::Machine;
use crate::mounts;
use crate::protocol::{Line, emit};

/// The argument with which systemd runs this program.
pub(crate) const RUN: &str = "run";

const SYSTEMD: &str = "/lib/systemd/systemd";
const UNITS: &str = "/etc/systemd/system";
const UNIT: &str = "vmtest.service";

const TARGET: &str = "\
[Unit]
Description=Test machine
Requires=vmtest.service
AllowIsolate=yes
";

/// The harness powers off at its end; when it can't even start, systemd does. Sockets are not all
/// started: the engines' would start the engines.
const SERVICE: &str = "\
[Unit]
Description=Test cases
Wants=dbus.socket
After=dbus.socket
FailureAction=poweroff-force
[Service]
ExecStart=/payload/vmtest run
StandardInput=null
StandardOutput=file:/dev/console
StandardError=file:/dev/console
Environment=SYSTEMD_LOG_TARGET=null
TasksMax=infinity
KillMode=process
";

/// Its own lines would fall between those of the protocol.
const QUIET: &str = "\
[Manager]
ShowStatus=no
LogTarget=null
";

/// Becomes systemd on the machines that have it, and runs the harness on others.
pub(crate) fn instead_of(harness: fn() -> ExitCode) -> ExitCode {
    if let Err(error) = hand_over() {
        emit(&Line::Log(&format!("systemd: {error:#}")));
    }
    harness()
}

/// Returns only where there is no systemd to become.
fn hand_over() -> Result<Option<Infallible>> {
    mounts::all()?;
    if !Machine::this()?.has_systemd() {
        return Ok(None);
    }
    let units = Path::new(UNITS);
    fs::create_dir_all(units)?;
    fs::write(units.join(UNIT), SERVICE).context("the unit")?;
    let target = units.join("default.target");
    if target.is_symlink() {
        fs::remove_file(&target)?;
    }
    fs::write(target, TARGET).context("default.target")?;
    let config = Path::new("/etc/systemd/system.conf.d");
    fs::create_dir_all(config)?;
    fs::write(config.join("vmtest.conf"), QUIET).context("systemd's configuration")?;
    let error = Command::new(SYSTEMD).env_clear().exec();
    Err(error).context(SYSTEMD)
}
