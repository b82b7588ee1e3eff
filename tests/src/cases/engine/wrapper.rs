//! The runtime wrapper under the names by which it is told which runtime to run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Runs runc where nothing says otherwise.
pub(super) const RUNC: &str = "/payload/execblock-runc";
/// A link whose name says crun.
pub(super) const CRUN: &str = "/run/vmtest/execblock-crun";

/// Makes the link, once.
pub(super) fn prepare() -> Result<()> {
    if Path::new(CRUN).is_symlink() {
        return Ok(());
    }
    fs::create_dir_all("/run/vmtest")?;
    symlink(RUNC, CRUN).context(CRUN)
}
