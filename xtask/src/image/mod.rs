//! `cargo xtask image`: execblock's own container image, without an engine. From
//! scratch: the programs and their licences, and nothing else.

mod content;

// The images of the tests are written by it too.
#[cfg_attr(not(test), expect(dead_code, reason = "links are in those alone"))]
#[path = "../../../tests/src/oci_image.rs"]
mod oci_image;

use std::{
    env,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use self::{
    content::Content,
    oci_image::{About, Image},
};
use crate::host;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What it is called where it is loaded
    #[arg(long, value_name = "NAME", default_value_t = name())]
    name: String,
    /// Take the programs of this folder, with the libraries that they want, instead of
    /// building static ones
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Where to; target/dist/execblock-VERSION-amd64.oci.tar unless said
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// As deploy/ names it.
pub(crate) fn name() -> String {
    format!("ghcr.io/execblock/execblock:{}", env!("CARGO_PKG_VERSION"))
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let content = match &arguments.programs {
        Some(folder) => Content::of(folder)?,
        None => Content::of_static(&build()?)?,
    };
    let output = match &arguments.output {
        Some(file) => file.clone(),
        None => host::target_directory()?.join(format!(
            "dist/execblock-{}-amd64.oci.tar",
            env!("CARGO_PKG_VERSION")
        )),
    };
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    write(&content, &arguments.name, true, &output)?;
    println!(
        "{}: {} in {} bytes, of {} unpacked",
        output.display(),
        arguments.name,
        fs::metadata(&output)?.len(),
        content.size(),
    );
    println!("ctr --namespace k8s.io images import FILE, or podman load --input FILE");
    Ok(true)
}

/// The image of a build for tests: nothing is built for it, and nothing compressed.
pub(crate) fn of_tests(programs: &Path, output: &Path) -> Result<()> {
    write(&Content::of(programs)?, &name(), false, output)
}

fn write(content: &Content, name: &str, compressed: bool, output: &Path) -> Result<()> {
    let time = time()?;
    let created = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time));
    let created = created.to_string();
    let revision = git(&["rev-parse", "HEAD"]).unwrap_or_default();
    let entries = content.entries();
    let image = Image {
        name,
        entrypoint: &["/execblock"],
        entries: &entries,
        about: About {
            labels: &[
                ("org.opencontainers.image.created", &created),
                (
                    "org.opencontainers.image.description",
                    "Say which programs a container must not execute; the kernel refuses them",
                ),
                ("org.opencontainers.image.licenses", "MIT OR Apache-2.0"),
                ("org.opencontainers.image.revision", revision.trim()),
                (
                    "org.opencontainers.image.source",
                    env!("CARGO_PKG_REPOSITORY"),
                ),
                ("org.opencontainers.image.title", "execblock"),
                (
                    "org.opencontainers.image.version",
                    env!("CARGO_PKG_VERSION"),
                ),
            ],
            created: Some(&created),
            time,
            compressed,
        },
    };
    let file = File::create(output).with_context(|| output.display().to_string())?;
    oci_image::write(image, BufWriter::new(file))
}

/// The time of all that is in it: what SOURCE_DATE_EPOCH says, else the commit's.
fn time() -> Result<u64> {
    let said = match env::var("SOURCE_DATE_EPOCH") {
        Ok(said) => said,
        Err(_) => git(&["log", "-1", "--format=%ct"]).unwrap_or_else(|_no_git| "0".to_owned()),
    };
    let said = said.trim();
    said.parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH={said}: expected seconds"))
}

fn git(arguments: &[&str]) -> Result<String> {
    host::output(
        host::program("git")
            .args(arguments)
            .current_dir(host::checkout()),
    )
}

/// Builds static programs, whose text tells nothing of this machine's folders; the folder
/// that has them.
fn build() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!(
            "--remap-path-prefix={}=/execblock",
            host::checkout().display()
        ),
    ];
    host::run(
        host::cargo()
            .args(["build", "--release", "--locked", "--target", TARGET])
            .args(["-p", "execblock-cli", "-p", "execblock-hooks"])
            .args(["--features", "execblock-cli/kubernetes"])
            // One a flag: a folder's name may have spaces.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .current_dir(host::checkout()),
    )?;
    Ok(host::target_directory()?.join(TARGET).join("release"))
}
