//! What the cases of installing install: install.sh with what it takes beside it, and two
//! Debian packages of the programs that are built for the machines, so that nothing is
//! built twice. Both are made as `cargo xtask dist` makes them.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    dist::{Release, deb, stage},
    host,
};

/// Of the checkout.
const FILES: [&str; 6] = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "examples/config.toml",
    "examples/systemd/execblock-load.service",
    "examples/systemd/execblock.service",
    "install.sh",
];

/// Puts all that into a folder of the payload.
pub(super) fn add(programs: &Path, into: &Path) -> Result<()> {
    for name in FILES {
        let to = into.join(name);
        fs::create_dir_all(to.parent().unwrap_or(into))?;
        fs::copy(host::checkout().join(name), to).context(name)?;
    }
    if !deb::TOOL.is_installed() {
        println!("cargo-deb is not installed, the cases of the package will skip");
        return Ok(());
    }
    // Some time: nobody compares these.
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: 1_000_000_000,
    };
    stage::rendered(programs, &release)?;
    let newer = format!("{}+upgrade", release.version);
    for (name, version) in [("1", &release.version), ("2", &newer)] {
        let wanted = deb::Wanted {
            version,
            target: None,
            profile: "vm",
            fast: true,
        };
        let package = deb::build(&wanted, &release, into)?;
        fs::rename(package, into.join(format!("execblock_{name}.deb")))?;
    }
    Ok(())
}
