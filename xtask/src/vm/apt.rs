//! Debian's and Ubuntu's packages without touching the machine's own package system: apt with
//! sources, lists and cache of its own, unpacked with dpkg-deb, nothing
//! installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail};

use crate::host;

pub(crate) const MIRROR: &str = "http://deb.debian.org/debian";
const SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// Mirror and suite.
type Suite = (&'static str, &'static str);

const SUITES: &[Suite] = &[
    (MIRROR, "bookworm"),
    (SECURITY_MIRROR, "bookworm-security"),
    (MIRROR, "trixie"),
    (SECURITY_MIRROR, "trixie-security"),
    (MIRROR, "trixie-backports"),
];
/// Debian 11, which leaves the mirrors some day: nothing else may fail with it.
const OLD_SUITES: &[Suite] = &[(MIRROR, "bullseye"), (SECURITY_MIRROR, "bullseye-security")];
pub(crate) const UBUNTU_MIRROR: &str = "http://archive.ubuntu.com/ubuntu";
/// Of what is fetched only when it is named, as of Debian 11.
const UBUNTU_SUITES: &[Suite] = &[
    (UBUNTU_MIRROR, "jammy"),
    (UBUNTU_MIRROR, "jammy-updates"),
    (UBUNTU_MIRROR, "noble"),
    (UBUNTU_MIRROR, "noble-updates"),
    (UBUNTU_MIRROR, "resolute"),
    (UBUNTU_MIRROR, "resolute-updates"),
];
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub(crate) const NEEDED: &[host::Needed] = &[("apt-get", "apt"), ("dpkg-deb", "dpkg")];

#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
    suites: &'static [Suite],
    keyring: PathBuf,
    updated: AtomicBool,
}

impl Apt {
    /// Keeps its state in the given folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            suites: SUITES,
            keyring: KEYRING.into(),
            updated: AtomicBool::new(false),
        }
    }

    /// The same for Debian 11.
    pub(crate) fn old(folder: PathBuf) -> Self {
        Self {
            suites: OLD_SUITES,
            ..Self::new(folder)
        }
    }

    /// The same for Ubuntu, whose keys are in the given file.
    pub(crate) fn ubuntu(folder: PathBuf, keyring: PathBuf) -> Self {
        Self {
            suites: UBUNTU_SUITES,
            keyring,
            ..Self::new(folder)
        }
    }

    /// The names of all packages that begin and end with these.
    pub(crate) fn names(&self, prefix: &str, suffix: &str) -> Result<Vec<String>> {
        self.update()?;
        let all = host::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(all
            .lines()
            .filter(|name| name.ends_with(suffix))
            .map(Into::into)
            .collect())
    }

    /// The versions of a package in the archive, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        self.update()?;
        let table = host::output(self.command("apt-cache").args(["madison", package]))?;
        let versions = table.lines().filter_map(|row| row.split('|').nth(1));
        Ok(versions.map(|version| version.trim().to_owned()).collect())
    }

    /// Downloads packages (`NAME` or `NAME=VERSION`) and unpacks them into a folder.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        self.update()?;
        let scratch = tempfile::tempdir_in(&self.folder)?;
        host::run_quietly(
            self.command("apt-get")
                .args(["download", "--quiet"])
                .args(packages)
                .current_dir(scratch.path()),
        )?;
        fs::create_dir_all(into)?;
        for entry in fs::read_dir(scratch.path())? {
            host::run_quietly(
                host::program("dpkg-deb")
                    .arg("-x")
                    .arg(entry?.path())
                    .arg(into),
            )?;
        }
        Ok(())
    }

    fn update(&self) -> Result<()> {
        if self.updated.load(Ordering::Relaxed) {
            return Ok(());
        }
        host::require(NEEDED)?;
        if !Path::new(KEYRING).exists() {
            bail!(
                "{KEYRING} is missing; install it with\n    {}",
                host::install_line(&["debian-archive-keyring"])
            );
        }
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        fs::write(self.folder.join("state/status"), "")?;
        fs::write(self.folder.join("sources.list"), self.sources())?;
        host::run_quietly(self.command("apt-get").args(["update", "--quiet"]))
            .with_context(|| format!("{} can't be read", self.suites[0].0))?;
        self.updated.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn sources(&self) -> String {
        let keyring = self.keyring.display();
        let line =
            |(mirror, suite): &Suite| format!("deb [signed-by={keyring}] {mirror} {suite} main\n");
        self.suites.iter().map(line).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = host::program(program);
        let in_folder = |name: &str| self.folder.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", in_folder("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            format!("Dir::State={}", in_folder("state")),
            format!("Dir::State::status={}", in_folder("state/status")),
            format!("Dir::Cache={}", in_folder("cache")),
            "APT::Architecture=amd64".into(),
            "APT::Architectures::=amd64".into(),
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            // A mirror that is a few days behind is good enough for tests.
            "Acquire::Check-Valid-Until=false".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Compares versions as people do: runs of digits by value.
pub(crate) fn natural_key(text: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = rest[..digits].parse().unwrap_or(0);
        rest = &rest[digits..];
        let word = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        key.push((number, rest[..word].to_owned()));
        rest = &rest[word..];
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_number() {
        let mut names = [
            "6.12.117+deb13",
            "6.12.90+deb13.1",
            "6.12.90+deb13",
            "6.12.100+deb13",
        ];
        names.sort_by_key(|name| natural_key(name));
        assert_eq!(
            names,
            [
                "6.12.90+deb13",
                "6.12.90+deb13.1",
                "6.12.100+deb13",
                "6.12.117+deb13"
            ]
        );
    }
}
