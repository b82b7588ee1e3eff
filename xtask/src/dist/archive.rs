//! The archive for systems without Debian's packages: the programs, what `stage` has made,
//! install.sh and the documents, in one folder. Its entries are sorted, root's, of one time
//! and of one of two modes, so that the same files give the same bytes.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

use super::{Release, name_of};
use crate::host;

/// What is taken of the checkout as it is, files and folders.
const DOCUMENTS: &[&str] = &[
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "README.zh-CN.md",
    "SECURITY.md",
    "docs",
    "examples",
    "hooks/hooks.d",
    "install.sh",
];

/// Beside each other, as install.sh wants them.
const PROGRAMS: [&str; 3] = ["execblock", "execblock-hook", "execblock-runc"];

/// Writes `execblock-VERSION-x86_64-linux.tar.gz`.
pub(crate) fn write(
    release: &Release,
    programs: &Path,
    bill: &Path,
    into: &Path,
) -> Result<PathBuf> {
    let folder = format!("execblock-{}-x86_64-linux", release.version);
    let mut files = documents()?;
    for name in PROGRAMS {
        files.push((format!("bin/{name}"), programs.join(name)));
    }
    let package = programs.join("package");
    collect(&package.join("man"), "share/man/man1", &mut files)?;
    let completions = package.join("completions");
    collect(&completions, "share/completions", &mut files)?;
    files.push((name_of(bill)?, bill.to_owned()));
    let file = into.join(format!("{folder}.tar.gz"));
    let out = File::create(&file).with_context(|| file.display().to_string())?;
    pack(&folder, files, release.epoch, out)?;
    Ok(file)
}

/// Those that git knows: nothing that lies about in this checkout alone.
fn documents() -> Result<Vec<Entry>> {
    let mut list = host::program("git");
    list.args(["ls-files", "-z", "--"])
        .args(DOCUMENTS)
        .current_dir(host::checkout());
    let listed = host::output(&mut list)?;
    let names = listed.split('\0').filter(|name| !name.is_empty());
    let entry = |name: &str| (name.to_owned(), host::checkout().join(name));
    Ok(names.map(entry).collect())
}

/// A name in the archive, and the file.
type Entry = (String, PathBuf);

/// The file, or all files below the folder.
fn collect(path: &Path, name: &str, files: &mut Vec<Entry>) -> Result<()> {
    if !path.is_dir() {
        files.push((name.to_owned(), path.to_owned()));
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        collect(&path, &format!("{name}/{}", name_of(&path)?), files)?;
    }
    Ok(())
}

fn pack(folder: &str, mut files: Vec<Entry>, epoch: u64, out: impl Write) -> Result<()> {
    files.sort();
    // No name and no time of its own in the header.
    let gzip = GzBuilder::new().write(out, Compression::best());
    let mut archive = tar::Builder::new(gzip);
    for (name, path) in files {
        let content = fs::read(&path).with_context(|| path.display().to_string())?;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len().try_into()?);
        header.set_mtime(epoch);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(if is_program(&path)? { 0o755 } else { 0o644 });
        archive.append_data(&mut header, format!("{folder}/{name}"), &content[..])?;
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}

/// Whoever checked out, or built, may have another umask.
fn is_program(path: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The same two files, made in this order with these modes.
    fn packed(order: [&str; 2], mode: u32) -> Result<Vec<u8>> {
        let scratch = tempfile::tempdir()?;
        let below = scratch.path().join("below");
        fs::create_dir(&below)?;
        let mut files = Vec::new();
        for name in order {
            let path = below.join(name);
            fs::write(&path, name)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        collect(&below, "below", &mut files)?;
        let mut bytes = Vec::new();
        pack("folder", files, 1000, &mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn the_same_files_give_the_same_bytes() -> Result<()> {
        let one = packed(["one", "two"], 0o644)?;
        assert_eq!(one, packed(["two", "one"], 0o600)?);
        assert_ne!(one, packed(["two", "one"], 0o755)?);
        Ok(())
    }

    #[test]
    fn documents_are_there() -> Result<()> {
        let files = documents()?;
        for name in DOCUMENTS {
            let below = |(file, _): &Entry| file == name || file.starts_with(&format!("{name}/"));
            assert!(files.iter().any(below), "no {name}");
        }
        Ok(())
    }

    #[test]
    fn entries_are_sorted_and_roots() -> Result<()> {
        let bytes = packed(["two", "one"], 0o700)?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut names = Vec::new();
        for entry in archive.entries()? {
            let entry = entry?;
            let header = entry.header();
            assert_eq!((header.uid()?, header.gid()?), (0, 0));
            assert_eq!((header.mtime()?, header.mode()?), (1000, 0o755));
            names.push(entry.path()?.display().to_string());
        }
        assert_eq!(names, ["folder/below/one", "folder/below/two"]);
        Ok(())
    }
}
