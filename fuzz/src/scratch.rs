//! A directory of each thread's own, for targets that read files. Some thousand a
//! second are written: let TMPDIR be in memory.

use std::{cell::LazyCell, fs, io, path::PathBuf};

use tempfile::TempDir;

thread_local! {
    static DIR: LazyCell<io::Result<TempDir>> = const { LazyCell::new(tempfile::tempdir) };
}

/// The path of a file in it; its directories are there.
pub(crate) fn path(name: &str) -> PathBuf {
    DIR.with(|dir| {
        let dir = dir.as_ref().expect("a directory for files");
        let path = dir.path().join(name);
        let parent = path.parent().expect("it lies in the directory");
        fs::create_dir_all(parent).expect("a directory");
        path
    })
}

/// Writes a file in it.
pub(crate) fn write(name: &str, content: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, content).expect("a file");
    path
}
