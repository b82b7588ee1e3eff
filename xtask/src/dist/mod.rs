//! `cargo xtask dist`: what is released, in `target/dist`: a Debian package, an archive for
//! every other system, a bill of materials, and the checksums of all. The same commit gives
//! the same bytes, wherever it is built with the same compiler.

mod archive;
mod build;
pub(crate) mod deb;
mod sbom;
pub(crate) mod stage;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::host;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Take the programs that an earlier call has built
    #[arg(long)]
    no_build: bool,
}

/// What names a release.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) version: String,
    /// Seconds since 1970 of the last commit: the time of all that is packed.
    pub(crate) epoch: u64,
}

impl Release {
    pub(crate) fn of_checkout() -> Result<Self> {
        let mut log = host::program("git");
        log.args(["log", "-1", "--format=%ct"])
            .current_dir(host::checkout());
        // As https://reproducible-builds.org/specs/source-date-epoch asks for: a checkout
        // without history says its time by this.
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => host::output(&mut log).context("SOURCE_DATE_EPOCH is not set either")?,
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: epoch.trim().parse().context("SOURCE_DATE_EPOCH")?,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    require_tools()?;
    let release = Release::of_checkout()?;
    let built = if arguments.no_build {
        build::folder()?
    } else {
        build::programs(&release)?
    };
    let into = host::target_directory()?.join("dist");
    if into.exists() {
        fs::remove_dir_all(&into)?;
    }
    fs::create_dir_all(&into).with_context(|| into.display().to_string())?;
    stage::rendered(&built, &release)?;
    let package = deb::Wanted {
        version: &release.version,
        target: Some(build::TARGET),
        profile: "release",
        fast: false,
    };
    let bill = sbom::write(&release, &into)?;
    let package = deb::build(&package, &release, &into)?;
    host::run(host::program("lintian").args(LINTIAN).arg(&package))?;
    let files = [
        package,
        archive::write(&release, &built, &bill, &into)?,
        bill,
    ];
    fs::write(into.join("SHA256SUMS"), sums(&files)?)?;
    for file in &files {
        println!("{:>10}  {}", fs::metadata(file)?.len(), file.display());
    }
    println!("{:>10}  {}", "", into.join("SHA256SUMS").display());
    Ok(true)
}

/// What Debian's own check of packages is asked: a warning is an error.
const LINTIAN: [&str; 1] = ["--fail-on=error,warning"];

/// Fails with the commands that install what is missing.
fn require_tools() -> Result<()> {
    host::require(&[
        ("git", "git"),
        ("date", "coreutils"),
        ("lintian", "lintian"),
    ])?;
    let missing = [deb::TOOL, sbom::TOOL]
        .into_iter()
        .filter(|tool| !tool.is_installed())
        .map(|tool| format!("    cargo install --locked {}@{}", tool.name, tool.version))
        .collect::<Vec<_>>();
    if !missing.is_empty() {
        bail!(
            "programs are missing; install them with\n{}",
            missing.join("\n")
        );
    }
    Ok(())
}

/// A subcommand of cargo that is not cargo's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    name: &'static str,
    /// Another one may give other bytes.
    version: &'static str,
}

impl Tool {
    pub(crate) fn is_installed(self) -> bool {
        host::find_program(self.name).is_some()
    }
}

/// As sha256sum(1) reads it, sorted by name.
fn sums(files: &[PathBuf]) -> Result<String> {
    let mut lines = Vec::new();
    for file in files {
        let digest = Sha256::digest(fs::read(file)?);
        lines.push((name_of(file)?, format!("{digest:x}")));
    }
    lines.sort();
    let line = |(name, digest): &(String, String)| format!("{digest}  {name}\n");
    Ok(lines.iter().map(line).collect())
}

fn name_of(file: &Path) -> Result<String> {
    let name = file.file_name().context("a file without a name")?;
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_what_sha256sum_checks() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let files = ["b", "a"].map(|name| folder.path().join(name));
        for file in &files {
            fs::write(file, "abc")?;
        }
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sums(&files)?, format!("{digest}  a\n{digest}  b\n"));
        Ok(())
    }
}
