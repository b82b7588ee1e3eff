//! What engines must be told so that they call us: edits of their configuration,
//! text in, text out. Only [`files`] touches the disk.

pub(crate) mod containerd;
pub(crate) mod crio;
pub(crate) mod docker;
pub(crate) mod files;
pub(crate) mod hooks_d;
pub(crate) mod required;
pub(crate) mod version;

/// Why a file is not edited. It stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    /// Not the language that it should be.
    #[error("{0}")]
    Syntax(String),
    /// Something else than expected.
    #[error("{at}: found {found}, expected {expected}")]
    Shape {
        at: String,
        found: String,
        expected: &'static str,
    },
}

/// Whether a path is our wrapper, wherever it is installed.
fn is_wrapper(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    matches!(name, "execblock-runc" | "execblock-crun")
}
