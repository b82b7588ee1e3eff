//! `cargo xtask vm build-kernel`: the one kernel that no package has, with
//! `bpf_override_return` and every ABI, built from Debian's kernel source.

use std::{fs, thread};

use anyhow::{Context, Result};

use super::{Cache, kernel};
use crate::host;

const SOURCE: &str = "linux-source-6.12";
/// Everything is built in, so that the kernel needs no modules.
const CONFIG: &str = include_str!("../../override.config");

const NEEDED: &[host::Needed] = &[
    ("make", "make"),
    ("gcc", "gcc"),
    ("bc", "bc"),
    ("bison", "bison"),
    ("flex", "flex"),
    ("xz", "xz-utils"),
    ("tar", "tar"),
    ("pahole", "pahole"),
    ("perl", "perl"),
    ("python3", "python3"),
];
/// Libraries that the build wants, by a file of theirs.
const LIBRARIES: &[(&str, &str)] = &[
    ("/usr/include/libelf.h", "libelf-dev"),
    ("/usr/include/openssl/ssl.h", "libssl-dev"),
];

pub(super) fn run(cache: &Cache) -> Result<()> {
    let mut missing = host::missing_packages(NEEDED);
    missing.extend(
        LIBRARIES
            .iter()
            .filter(|(file, _)| fs::metadata(file).is_err())
            .map(|(_, name)| *name),
    );
    if !missing.is_empty() {
        anyhow::bail!(
            "programs are missing; install them with\n    {}",
            host::install_line(&missing)
        );
    }
    let _lock = cache.lock()?;
    let scratch = cache.scratch()?;
    println!("fetching {SOURCE}");
    cache.apt.unpack(&[SOURCE.into()], scratch.path())?;
    let archive = scratch.path().join(format!("usr/src/{SOURCE}.tar.xz"));
    host::run_quietly(
        host::program("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(scratch.path()),
    )?;
    let tree = scratch.path().join(SOURCE);
    fs::write(tree.join(".config"), CONFIG).context("the source is laid out otherwise")?;

    let jobs = thread::available_parallelism().map_or(1, usize::from);
    println!("building it: half an hour of one processor");
    for target in ["olddefconfig", "bzImage"] {
        host::run_quietly(
            host::program("make")
                .args(["--silent", &format!("--jobs={jobs}"), target])
                // The image then depends on nothing but source, configuration and compiler.
                .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
                .env("KBUILD_BUILD_USER", "execblock")
                .env("KBUILD_BUILD_HOST", "execblock")
                .current_dir(&tree),
        )?;
    }
    let built = cache.built_kernel();
    fs::rename(tree.join("arch/x86/boot/bzImage"), &built)?;
    println!("{}: built ({})", kernel::OVERRIDE, built.display());
    Ok(())
}
