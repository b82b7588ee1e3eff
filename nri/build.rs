//! Generates the messages and the two services of `proto/nri.proto`. The parser
//! is written in Rust: no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/nri.proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    Codegen::new()
        .out_dir(&out)
        .input("proto/nri.proto")
        .include("proto")
        .rust_protobuf()
        // No reflection: it would be half of the code.
        .rust_protobuf_customize(ProtobufCustomize::default().lite_runtime(true))
        .customize(Customize {
            async_all: true,
            ..Customize::default()
        })
        .run()?;
    // The module file that the generator can write begins with an inner
    // attribute, which include! doesn't take.
    fs::write(out.join("modules.rs"), "pub mod nri;\npub mod nri_ttrpc;\n")?;
    Ok(())
}
