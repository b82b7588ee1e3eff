//! `cargo xtask ebpf`: compiles the kernel side and puts the object where the
//! engine embeds it.
//!
//! The object is committed, so that building execblock needs stable Rust alone,
//! and `--check` proves that it comes from the sources beside it. Both rest on
//! the object being the same wherever it is built: no path in it, and no hash
//! of one.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{host, object_file, rust_src};

/// What the committed object was made with.
pub(crate) const RUST: &str = "1.95.0";
const LINKER: &str = "0.10.4";

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "engine/bpf/execblock.bpf.o";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when the committed object is not what the sources make
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let built = build()?;
    let committed = host::checkout().join(OBJECT);
    if !arguments.check {
        fs::create_dir_all(committed.parent().context(OBJECT)?)?;
        fs::write(&committed, &built).context(OBJECT)?;
        println!(
            "{OBJECT}: {} bytes, sha256 {}",
            built.len(),
            sha256(&committed)?
        );
        return Ok(true);
    }
    let scratch = tempfile::tempdir()?;
    let other = scratch.path().join("execblock.bpf.o");
    fs::write(&other, &built)?;
    println!("built      {}", sha256(&other)?);
    println!(
        "committed  {}",
        sha256(&committed).unwrap_or_else(|_| "(none)".into())
    );
    let same = fs::read(&committed).is_ok_and(|bytes| bytes == built);
    if !same {
        println!("{OBJECT} is not what plugin-ebpf makes; run `cargo xtask ebpf` and commit it");
    }
    Ok(same)
}

fn build() -> Result<Vec<u8>> {
    check_tools()?;
    let sysroot = PathBuf::from(host::output(rustc().args(["--print", "sysroot"]))?.trim());
    let sources = rust_src::ensure(&sysroot)?;
    let target = host::target_directory()?.join("ebpf");
    let mut flags = [
        "-C",
        "linker=bpf-linker",
        "-C",
        "link-arg=--btf",
        "-C",
        "debuginfo=2",
    ]
    .map(OsString::from)
    .to_vec();
    for (path, name) in [
        (host::checkout().to_owned(), "/execblock"),
        (cargo_home()?, "/cargo"),
        // Where they are and where they look to be can differ by a link.
        (sources.canonicalize()?, "/rust"),
        (sources, "/rust"),
    ] {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(path);
        flag.push("=");
        flag.push(name);
        flags.push(flag);
    }
    let mut cargo = host::cargo();
    forget_outer_build(&mut cargo);
    host::run(
        cargo
            .args(["build", "--release", "--locked", "--target", TARGET])
            .args(["-Z", "build-std=core", "--target-dir"])
            .arg(&target)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC_WRAPPER", env::current_exe()?)
            .env(WRAPPED, host::checkout())
            .env("CARGO_INCREMENTAL", "0")
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                flags.join(std::ffi::OsStr::new("\x1f")),
            )
            .current_dir(host::checkout().join("plugin-ebpf")),
    )?;
    let object = target.join(TARGET).join("release/execblock-ebpf");
    let object = fs::read(&object).with_context(|| object.display().to_string())?;
    object_file::check_no_panic(&object)?;
    object_file::without_debug_sections(&object)
}

/// The outer cargo describes its own build in the environment; a nested one
/// must not read that as its settings.
fn forget_outer_build(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let flags = [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
        ];
        if flags.contains(&&*text)
            || text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_MANIFEST_")
        {
            cargo.env_remove(&name);
        }
    }
}

fn rustc() -> Command {
    Command::new("rustc")
}

fn check_tools() -> Result<()> {
    let rust = host::output(rustc().arg("--version"))?;
    if rust.split(' ').nth(1) != Some(RUST) {
        bail!(
            "the object is made with rustc {RUST}; this is {}",
            rust.trim()
        );
    }
    let linker = host::output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    if !linker.contains(LINKER) {
        bail!(
            "bpf-linker {LINKER} is missing; install it with\n    cargo install \
             bpf-linker@{LINKER} --no-default-features --features rust-llvm-22 --locked"
        );
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .context("HOME is not set")
}

fn sha256(file: &Path) -> Result<String> {
    let line = host::output(host::program("sha256sum").arg(file))?;
    Ok(line
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Set for the nested build to the checkout: this program then stands in for rustc.
const WRAPPED: &str = "EXECBLOCK_WRAPPED_RUSTC";

/// Runs rustc for the nested build, when that is what we were started for.
///
/// Cargo tells crates of a name apart by a hash of where they lie, and rustc puts
/// it into every symbol. Our own crates get one that is the same everywhere.
pub(crate) fn wrapped_rustc() -> Option<ExitCode> {
    let checkout = env::var_os(WRAPPED)?;
    let mut arguments = env::args_os().skip(1);
    let rustc = arguments.next()?;
    let mut arguments = arguments.collect::<Vec<_>>();
    let ours = env::var_os("CARGO_MANIFEST_DIR")
        .is_some_and(|folder| Path::new(&folder).starts_with(&checkout));
    if ours {
        let name = env::var("CARGO_CRATE_NAME").unwrap_or_default();
        for argument in &mut arguments {
            if argument.to_string_lossy().starts_with("metadata=") {
                *argument = format!("metadata={name}").into();
            }
        }
    }
    let status = Command::new(rustc).args(arguments).status().ok()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
