//! A directory of each thread's own, for targets that read files. Some thousand a
//! second are written: let TMPDIR be in memory.

use std::{
    cell::LazyCell,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::PathBuf,
};

use tempfile::TempDir;

thread_local! {
    static DIR: LazyCell<io::Result<TempDir>> = const { LazyCell::new(private) };
}

/// As directories of ours are: their owner's alone.
fn private() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let mode = fs::Permissions::from_mode(0o700);
    builder.permissions(mode).tempdir()
}

/// The path of a file in it; its directories are there.
pub(crate) fn path(name: &str) -> PathBuf {
    DIR.with(|dir| {
        let dir = dir.as_ref().expect("a directory for files");
        let path = dir.path().join(name);
        let parent = path.parent().expect("it lies in the directory");
        let mut builder = fs::DirBuilder::new();
        let builder = builder.mode(0o700).recursive(true);
        builder.create(parent).expect("a directory");
        path
    })
}

/// Writes a file in it.
pub(crate) fn write(name: &str, content: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, content).expect("a file");
    path
}
