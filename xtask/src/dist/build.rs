//! The programs of a release: linked statically, so that one build runs on every
//! distribution, and with no path of the machine that built them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Release;
use crate::host;

/// glibc's own static library is taken: what needs its plugins (names of users and hosts)
/// none of our programs asks for. Named also where it is this machine's, so that build
/// scripts and macros are not linked in the same way.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where [`programs`] leaves them.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(host::target_directory()?.join(TARGET).join("release"))
}

/// Builds them; the folder that has them.
pub(crate) fn programs(release: &Release) -> Result<PathBuf> {
    let target = host::target_directory()?;
    let home = cargo_home()?;
    host::run(
        host::cargo()
            .args(["build", "--release", "--locked", "--target", TARGET])
            .args(["-p", "execblock-cli", "-p", "execblock-hooks"])
            .env("CARGO_ENCODED_RUSTFLAGS", flags(&target, &home))
            .env("CARGO_INCREMENTAL", "0")
            // As Debian asks for.
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
            .current_dir(host::checkout()),
    )?;
    folder()
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().context("neither CARGO_HOME nor HOME is set")?;
    Ok(home.join(".cargo"))
}

/// As cargo splits them. Of two prefixes that fit the later one is taken: the target
/// directory may lie in the checkout.
fn flags(target: &Path, cargo_home: &Path) -> String {
    let remapped = [
        (cargo_home, "/cargo"),
        (host::checkout(), "/execblock"),
        (target, "/execblock/target"),
    ];
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    for (from, to) in remapped {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    flags.join("\x1f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_this_machine_is_left() {
        let flags = flags(Path::new("/x/target"), Path::new("/home/me/.cargo"));
        let flags: Vec<&str> = flags.split('\x1f').collect();
        assert_eq!(flags.len(), 4);
        assert!(flags.contains(&"--remap-path-prefix=/home/me/.cargo=/cargo"));
        assert_eq!(flags[3], "--remap-path-prefix=/x/target=/execblock/target");
    }
}
