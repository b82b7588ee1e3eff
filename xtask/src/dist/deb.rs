//! The Debian package, by cargo-deb: what it has stands in `[package.metadata.deb]` of
//! plugin/Cargo.toml. The machines of the tests install one that is made in the same way of
//! the programs that are built for them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Release, Tool};
use crate::host;

pub(crate) const TOOL: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
};

#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) version: &'a str,
    /// None for programs that were built without `--target`.
    pub(crate) target: Option<&'a str>,
    pub(crate) profile: &'a str,
    /// Larger, and there sooner.
    pub(crate) fast: bool,
}

/// Packs programs that are built, and what [`super::stage`] has made beside them.
pub(crate) fn build(wanted: &Wanted<'_>, release: &Release, into: &Path) -> Result<PathBuf> {
    let file = into.join(format!("execblock_{}_amd64.deb", wanted.version));
    let mut command = host::program(TOOL.name);
    command
        .args(["--no-build", "--no-strip", "--quiet", "--locked"])
        .args(["--package", "execblock-cli", "--profile", wanted.profile])
        .args(["--deb-version", wanted.version, "--output"])
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .current_dir(host::checkout());
    if let Some(target) = wanted.target {
        command.args(["--target", target]);
    }
    if wanted.fast {
        // By gzip(1): cargo-deb's own takes a minute more, for smaller packages.
        command.args(["--fast", "--compress-type", "gzip", "--compress-system"]);
    }
    host::run(&mut command)?;
    Ok(file)
}
