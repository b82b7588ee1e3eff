//! What the guest runs: the test program, execblock itself and small helper
//! programs of other ABIs, on a disk of their own so that the userland's image
//! stays as it was made.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Cache, Pair, image, package};
use crate::{host, image as oci};

#[derive(Debug)]
pub(crate) struct Payload {
    folder: TempDir,
}

impl Payload {
    /// Compiles the programs and packs them.
    pub(crate) fn build(cache: &Cache) -> Result<Self> {
        let release = programs()?;
        let payload = Self {
            folder: cache.scratch()?,
        };
        let content = payload.content();
        fs::create_dir_all(content.join("helpers"))?;
        image::install(&release.join("execblock-vmtest"), &content.join("vmtest"))?;
        for program in ["execblock", "execblock-hook", "execblock-runc"] {
            image::install(&release.join(program), &content.join(program))?;
        }
        // Of the programs that are there, with the libraries that they are linked with: static
        // ones would be a build of all crates more.
        let image = content.join("execblock.oci.tar");
        match std::env::var_os("EXECBLOCK_VM_IMAGE") {
            Some(built) => {
                fs::copy(&built, &image).context("EXECBLOCK_VM_IMAGE")?;
            }
            None => oci::of_tests(&release, &image)?,
        }
        compile_helpers(&content.join("helpers"))?;
        compile_evasion(&content.join("helpers"))?;
        package::add(&release, &content.join("package"))?;
        image::from_folder(
            &content,
            &payload.folder.path().join("payload.img"),
            "payload",
        )?;
        Ok(payload)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.path().join("payload.img")
    }

    fn content(&self) -> PathBuf {
        self.folder.path().join("payload")
    }

    /// The techniques of the evasion suite, as JSON.
    pub(crate) fn describe_evasion(&self) -> Result<String> {
        host::output(Command::new(self.content().join("vmtest")).arg("--evasion"))
    }

    /// The cases that the test program would run on this machine.
    pub(crate) fn case_names(&self, pair: Pair, filter: Option<&str>) -> BTreeSet<String> {
        let listed = host::output(Command::new(self.content().join("vmtest")).args([
            "--list",
            pair.kernel.name,
            pair.userland.name,
            filter.unwrap_or_default(),
        ]));
        listed
            .unwrap_or_default()
            .lines()
            .filter(|name| !name.is_empty() && fits(name, filter.unwrap_or_default()))
            .map(ToOwned::to_owned)
            .collect()
    }
}

/// Builds the programs; the folder that has them.
pub(crate) fn programs() -> Result<PathBuf> {
    let packages = ["execblock-vmtest", "execblock-cli", "execblock-hooks"];
    let packages = packages.into_iter().flat_map(|package| ["-p", package]);
    host::run(
        host::cargo()
            .args(["build", "--profile", "vm", "--quiet"])
            .args(packages)
            .current_dir(host::checkout()),
    )?;
    Ok(host::target_directory()?.join("vm"))
}

/// As the guest reads a filter: several substrings may be given, split by commas.
fn fits(name: &str, filter: &str) -> bool {
    filter.split(',').any(|part| name.contains(part))
}

/// Compiles `tests/helpers/NAME.c`. The name's end says for which ABI: `x32`,
/// `32` (ia32), or this machine's. Those of another ABI do without libc, which
/// few machines have for it. A compiler that can't is no error: the guest's
/// cases skip when their helper is absent.
fn compile_helpers(into: &Path) -> Result<()> {
    let sources = host::checkout().join("tests/helpers");
    if !sources.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(&sources).context("tests/helpers")? {
        let source = entry?.path();
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        if source.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        let flags: &[&str] = if name.ends_with("x32") {
            &["-mx32", "-nostdlib", "-ffreestanding"]
        } else if name.ends_with("32") {
            &["-m32", "-nostdlib", "-ffreestanding"]
        } else {
            &[]
        };
        let compiled = host::run_quietly(
            host::program("gcc")
                .args(["-O1", "-static", "-fno-pie", "-fno-stack-protector"])
                .args(flags)
                .arg("-o")
                .arg(into.join(&*name))
                .arg(&source),
        );
        if let Err(error) = compiled {
            println!("helper {name} can't be compiled, its cases will skip: {error:#}");
        }
    }
    Ok(())
}

/// The programs of the evasion suite, from `tests/helpers/evasion`: name, sources and flags. They
/// are for x86-64 alone, and the suite can't do without them.
const EVASION: &[(&str, &[&str], &[&str])] = &[
    (
        "evade",
        &[
            "evade.c",
            "batch.c",
            "execs.c",
            "files.c",
            "images.c",
            "races.c",
            "strings.c",
            "traces.c",
        ],
        &["-static", "-no-pie", "-fno-pie", "-pthread"],
    ),
    (
        "marker-static",
        &["marker.c"],
        &[
            "-DMARKER_STATIC",
            "-static",
            "-nostdlib",
            "-ffreestanding",
            "-no-pie",
            "-fno-pie",
            "-Wl,-Ttext-segment=0x10000000",
            "-Wl,-z,noseparate-code",
        ],
    ),
    ("marker-dynamic", &["marker.c"], &["-fPIE", "-pie"]),
    (
        "marker.so",
        &["marker.c"],
        &["-DMARKER_LIBRARY", "-fPIC", "-shared", "-nostdlib"],
    ),
    ("loads", &["loads.c"], &["-fPIE", "-pie"]),
    ("multicall", &["multicall.c"], &["-static"]),
];

fn compile_evasion(into: &Path) -> Result<()> {
    let folder = host::checkout().join("tests/helpers/evasion");
    for (name, sources, flags) in EVASION {
        host::run_quietly(
            host::program("gcc")
                .args(["-O1", "-fno-stack-protector", "-Wall", "-Wextra"])
                .args(*flags)
                .arg("-o")
                .arg(into.join(name))
                .args(sources.iter().map(|source| folder.join(source))),
        )
        .with_context(|| format!("compile {name} of the evasion suite"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_one_or_more_substrings() {
        for (filter, fit) in [
            ("", true),
            ("lsm/", true),
            ("direct", true),
            ("cri/,direct", true),
            ("cri/", false),
            ("cri/,pins/", false),
        ] {
            assert_eq!(fits("lsm/direct", filter), fit, "{filter}");
        }
    }
}
