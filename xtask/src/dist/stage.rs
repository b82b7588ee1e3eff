//! What packages have besides the programs and is made from other files: units with the
//! package's paths, completions, manual pages, the changelog as Debian writes it. It lies in
//! `package`, beside the programs, where `[package.metadata.deb]` of plugin/Cargo.toml finds
//! it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

use super::{Release, name_of};
use crate::host;

/// The units have the paths of install.sh without `--prefix`; a package has others.
const UNITS_PREFIX: &str = "/usr/local/bin/";
const PACKAGE_PREFIX: &str = "/usr/bin/";

/// A shell, and what its completions are called.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "execblock.bash"),
    ("zsh", "_execblock"),
    ("fish", "execblock.fish"),
];

/// Makes it anew beside these programs.
pub(crate) fn rendered(programs: &Path, release: &Release) -> Result<PathBuf> {
    let into = programs.join("package");
    if into.exists() {
        fs::remove_dir_all(&into)?;
    }
    for folder in ["systemd", "completions", "man"] {
        fs::create_dir_all(into.join(folder)).with_context(|| into.display().to_string())?;
    }
    units(&into.join("systemd"))?;
    let execblock = programs.join("execblock");
    for (shell, name) in COMPLETIONS {
        let script = host::output(Command::new(&execblock).args(["completions", shell]))?;
        fs::write(into.join("completions").join(name), script)?;
    }
    manual(&execblock, &into.join("man"))?;
    let changes = fs::read_to_string(host::checkout().join("CHANGELOG.md"))?;
    let changelog = debian_changelog(&changes, &release.version, &date(release.epoch)?);
    fs::write(into.join("changelog.gz"), gzip(changelog.as_bytes())?)?;
    Ok(into)
}

/// The page of each command, and of the wrapper, which has none of its own to print.
fn manual(execblock: &Path, into: &Path) -> Result<()> {
    let pages = tempfile::tempdir()?;
    host::run_quietly(Command::new(execblock).arg("manual").arg(pages.path()))?;
    let written = host::checkout().join("packaging/man");
    for folder in [pages.path(), &written] {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let page = entry?.path();
            let name = format!("{}.gz", name_of(&page)?);
            fs::write(into.join(name), gzip(&fs::read(&page)?)?)?;
        }
    }
    Ok(())
}

/// As `gzip -9n` does it: no name and no time.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

fn units(into: &Path) -> Result<()> {
    let folder = host::checkout().join("examples/systemd");
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let unit = entry?.path();
        let text = fs::read_to_string(&unit)?;
        let name = unit.file_name().context("a unit without a name")?;
        fs::write(into.join(name), unit_of_package(&text))?;
    }
    Ok(())
}

/// The first line says where it is for whoever copies it; a package's is elsewhere.
fn unit_of_package(text: &str) -> String {
    text.replace(UNITS_PREFIX, PACKAGE_PREFIX)
        .replace("/etc/systemd/system/", "/usr/lib/systemd/system/")
}

/// As deb-changelog(5) has it: the list of the newest version.
fn debian_changelog(markdown: &str, version: &str, date: &str) -> String {
    let newest = markdown.split("\n## ").nth(1).unwrap_or_default();
    let mut items: Vec<Vec<&str>> = Vec::new();
    for line in newest.lines() {
        if let Some(item) = line.strip_prefix("- ") {
            items.push(item.split_whitespace().collect());
        } else if let (Some(item), Some(more)) = (items.last_mut(), line.strip_prefix("  ")) {
            item.extend(more.split_whitespace());
        }
    }
    let items: String = items.iter().map(|item| wrapped(item)).collect();
    format!("execblock ({version}) unstable; urgency=medium\n\n{items}\n -- {MAINTAINER}  {date}\n")
}

/// The longest line of a changelog.
const WIDTH: usize = 78;

fn wrapped(words: &[&str]) -> String {
    let mut text = String::new();
    let mut line = "  *".to_owned();
    for word in words {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.replace_range(.., "   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// Also in `[package.metadata.deb]`.
const MAINTAINER: &str = "The execblock authors <execblock@users.noreply.github.com>";

/// As mail has it.
fn date(epoch: u64) -> Result<String> {
    let mut date = host::program("date");
    date.args(["--utc", "--rfc-email", "--date"])
        .arg(format!("@{epoch}"))
        .env("LC_ALL", "C");
    Ok(host::output(&mut date)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_name_the_programs_of_the_package() -> Result<()> {
        let folder = tempfile::tempdir()?;
        units(folder.path())?;
        for (unit, command) in [
            ("execblock.service", "ExecStart=/usr/bin/execblock nri\n"),
            (
                "execblock-load.service",
                "ExecStart=/usr/bin/execblock load\n",
            ),
        ] {
            let text = fs::read_to_string(folder.path().join(unit))?;
            assert!(text.contains(command), "{text}");
            assert!(!text.contains("/usr/local"), "{text}");
        }
        Ok(())
    }

    #[test]
    fn the_changelog_is_the_newest_version() {
        let markdown = "# Changelog\n\n## 0.2.0\n\n### Added\n\n- One two three four five six seven eight nine ten eleven twelve\n  thirteen fourteen.\n- Two.\n\n## 0.1.0\n\n- Old.\n";
        let text = debian_changelog(markdown, "0.2.0", "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(
            text,
            format!(
                "execblock (0.2.0) unstable; urgency=medium\n\n  * One two three four five six seven eight nine ten eleven twelve thirteen\n    fourteen.\n  * Two.\n\n -- \
                 {MAINTAINER}  Thu, 01 Jan 1970 00:00:00 +0000\n"
            )
        );
    }

    #[test]
    fn the_maintainer_is_one() -> Result<()> {
        let manifest = fs::read_to_string(host::checkout().join("plugin/Cargo.toml"))?;
        assert!(manifest.contains(&format!("maintainer = \"{MAINTAINER}\"")));
        Ok(())
    }

    #[test]
    fn a_date_is_of_the_same_zone_everywhere() -> Result<()> {
        assert_eq!(date(86400)?, "Fri, 02 Jan 1970 00:00:00 +0000");
        Ok(())
    }
}
