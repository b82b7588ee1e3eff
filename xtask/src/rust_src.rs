//! The source of `core`, from which it is compiled for the eBPF target. Where
//! rustup can't bring it, Debian's package of the same version or an archive does.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{ebpf::RUST, host, vm::Apt};

/// An archive with the folder `library/` of Rust's source.
const ARCHIVE: &str = "EXECBLOCK_RUST_SRC";

/// Makes sure that the sources are in the sysroot, and returns their folder.
pub(crate) fn ensure(sysroot: &Path) -> Result<PathBuf> {
    let folder = sysroot.join("lib/rustlib/src/rust");
    if is_there(&folder) {
        return Ok(folder);
    }
    println!("the source of Rust's core library is missing");
    let unpacked = host::checkout().join("target/rust-src");
    let ways: [(&str, &dyn Fn() -> Result<()>); 3] = [
        ("the archive that EXECBLOCK_RUST_SRC names", &|| {
            link(&from_archive(&unpacked.join("archive"))?, &folder)
        }),
        ("rustup component add rust-src", &|| {
            host::run_quietly(Command::new("rustup").args(["component", "add", "rust-src"]))
        }),
        ("Debian's package rust-src", &|| {
            link(&from_debian(&unpacked.join("debian"))?, &folder)
        }),
    ];
    let mut failures = Vec::new();
    for (way, take) in ways {
        match take() {
            Ok(()) if is_there(&folder) => {
                println!("taken from {way}");
                return Ok(folder.clone());
            }
            Ok(()) => failures.push(format!("{way}: it is not in {}", folder.display())),
            Err(error) => failures.push(format!("{way}: {error:#}")),
        }
    }
    bail!(
        "the source of core can't be had:\n  {}",
        failures.join("\n  ")
    );
}

fn is_there(folder: &Path) -> bool {
    folder.join("library/core/src/lib.rs").exists()
}

fn from_archive(into: &Path) -> Result<PathBuf> {
    let archive = env::var_os(ARCHIVE).with_context(|| format!("{ARCHIVE} is not set"))?;
    fs::create_dir_all(into)?;
    host::run_quietly(
        host::program("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(into),
    )?;
    // An archive may lack the crates with core's own tests, which the workspace
    // of the library names all the same: empty ones will do.
    for name in ["coretests", "alloctests"] {
        let package = into.join("library").join(name);
        if !package.exists() {
            fs::create_dir_all(package.join("src"))?;
            fs::write(package.join("src/lib.rs"), "")?;
            let manifest =
                format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
            fs::write(package.join("Cargo.toml"), manifest)?;
        }
    }
    Ok(into.to_owned())
}

fn from_debian(into: &Path) -> Result<PathBuf> {
    fs::create_dir_all(into)?;
    let apt = Apt::new(into.join("apt"));
    let versions = apt.versions("rust-src")?;
    let version = versions
        .iter()
        .find(|version| version.starts_with(&format!("{RUST}+")))
        .with_context(|| format!("the archive has no rust-src {RUST}"))?;
    apt.unpack(&[format!("rust-src={version}")], into)?;
    Ok(into.join(format!("usr/src/rustc-{RUST}")))
}

/// Puts a link to the sources where cargo looks for them.
fn link(sources: &Path, folder: &Path) -> Result<()> {
    if folder.is_symlink() {
        // It points to sources that are gone.
        fs::remove_file(folder)?;
    }
    fs::create_dir_all(folder.parent().context("sysroot")?)?;
    symlink(sources, folder).with_context(|| folder.display().to_string())
}
