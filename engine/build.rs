//! Chooses the eBPF object that is embedded: the committed one, or the one that
//! `EXECBLOCK_EBPF_OBJECT` names. Nothing is compiled here, so that building
//! needs stable Rust alone.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=EXECBLOCK_EBPF_OBJECT");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = env::var_os("EXECBLOCK_EBPF_OBJECT")
        .map_or_else(|| manifest.join("bpf/execblock.bpf.o"), PathBuf::from);
    println!("cargo:rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::copy(&object, out.join("execblock.bpf.o"))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", object.display())))?;
    Ok(())
}
