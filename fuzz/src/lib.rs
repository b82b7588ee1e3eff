//! The fuzz targets, each a function of bytes that panics where something does not
//! hold. The programs in `bin` hand them to libFuzzer, `tests/seeds.rs` calls them
//! with the inputs that are kept.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target says by a panic what does not hold"
)]

pub mod annotation;
mod bytes;
pub mod config;
pub mod engines;
pub mod events;
pub mod lint;
pub mod nri;
pub mod oci;
mod scratch;

/// What is called with bytes from outside.
pub type Target = fn(&[u8]);

/// All of them, by the names of their programs and of their seeds' directories.
pub const TARGETS: [(&str, Target); 7] = [
    ("annotation", annotation::run),
    ("config", config::run),
    ("engines", engines::run),
    ("events", events::run),
    ("lint", lint::run),
    ("nri", nri::run),
    ("oci", oci::run),
];
