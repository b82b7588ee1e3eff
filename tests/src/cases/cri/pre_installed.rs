//! The daemon as a plugin that containerd starts itself, from the folder where it looks for them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal};

use super::{Engine, IDLE, LIMIT};
use crate::cases::Case;
use crate::containerd;
use crate::execblock::{self, PLUGIN};
use crate::machine::Machine;
use crate::process;
use crate::protocol;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::slow("cri/pre-installed", |_| pre_installed())]
}

/// In its folder; gone with the case, and containerd with it, which runs it.
struct Installed;

impl Installed {
    const PATH: &str = "/opt/nri/plugins/90-execblock";

    fn new() -> Result<Self> {
        fs::create_dir_all(containerd::NRI_PLUGINS)?;
        let installed = Self;
        fs::copy(execblock::PROGRAM, Self::PATH).context(Self::PATH)?;
        fs::set_permissions(Self::PATH, fs::Permissions::from_mode(0o755))?;
        Ok(installed)
    }

    fn process() -> Result<Option<Pid>> {
        Ok(process::running(Path::new(Self::PATH))?.first().copied())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let ended = containerd::stop().and_then(|()| Ok(fs::remove_file(Self::PATH)?));
        if let Err(error) = ended {
            protocol::log(format_args!("{}: {error:#}", Self::PATH));
        }
    }
}

fn pre_installed() -> Result<()> {
    // containerd waits for its plugins, and not for long: what takes its time is done before.
    execblock::not_loaded_but(Machine::this()?.kernel.preferred())?;
    execblock::run(&["load"])?.success()?;
    PLUGIN.stop(Signal::TERM)?;
    containerd::stop()?;
    let installed = Installed::new()?;
    let engine = Engine::new(containerd::start()?)?;
    let plugin = Installed::process()?.context("containerd did not start it")?;
    let pod = engine.pod("pre-installed", &[("execblock/deny", "whoami")])?;
    let bound = pod.start("bound", IDLE, &[])?;
    bound.is_protected()?;
    let id = bound.cgroup()?.id()?;
    let plain = engine.pod("plain", &[])?.start("c", IDLE, &[])?;
    plain.is_unprotected()?;
    // It ends with its containerd, and what it bound does not.
    containerd::stop()?;
    ensure!(
        process::wait_for_exit(plugin, LIMIT)?,
        "it goes on without containerd"
    );
    ensure!(
        execblock::bound_cgroups()?.contains(&id),
        "the entry went with it"
    );
    drop(installed);
    Ok(())
}
