//! What lies in the image: programs, their licences, and the libraries of programs that are
//! not static.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};

use super::oci_image::Entry;
use crate::host;

const PROGRAMS: [&str; 3] = ["execblock", "execblock-hook", "execblock-runc"];
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// Files by their path in the image: sorted, so that the image is the same each time.
#[derive(Debug)]
pub(crate) struct Content {
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
struct File {
    content: Vec<u8>,
    is_program: bool,
}

impl Content {
    /// The programs of a folder, and the libraries that they are linked with.
    pub(crate) fn of(programs: &Path) -> Result<Self> {
        let mut content = Self::licences()?;
        for name in PROGRAMS {
            let path = programs.join(name);
            let program = content.add(&format!("/{name}"), &path, true)?;
            if has_interpreter(program).with_context(|| path.display().to_string())? {
                for library in libraries(&path)? {
                    content.add(&library, Path::new(&library), true)?;
                }
            }
        }
        Ok(content)
    }

    /// The programs of a folder, which must be static: there is no loader in the image.
    pub(crate) fn of_static(programs: &Path) -> Result<Self> {
        let mut content = Self::licences()?;
        for name in PROGRAMS {
            let path = programs.join(name);
            let program = content.add(&format!("/{name}"), &path, true)?;
            if has_interpreter(program).with_context(|| path.display().to_string())? {
                bail!("{}: it is not static", path.display());
            }
        }
        Ok(content)
    }

    fn licences() -> Result<Self> {
        let mut content = Self {
            files: BTreeMap::new(),
        };
        for name in LICENCES {
            let path = host::checkout().join(name);
            content.add(&format!("/licenses/execblock/{name}"), &path, false)?;
        }
        Ok(content)
    }

    fn add(&mut self, to: &str, from: &Path, is_program: bool) -> Result<&[u8]> {
        let content = fs::read(from).with_context(|| from.display().to_string())?;
        let file = File {
            content,
            is_program,
        };
        let file = self.files.entry(to.to_owned()).or_insert(file);
        Ok(&file.content)
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> usize {
        self.files.values().map(|file| file.content.len()).sum()
    }

    /// Folders before what is in them.
    pub(crate) fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
        for (path, file) in &self.files {
            for (end, _) in path.match_indices('/').skip(1) {
                entries.insert(&path[..end], Entry::Dir(&path[..end]));
            }
            let content = &file.content[..];
            let entry = if file.is_program {
                Entry::Program { path, content }
            } else {
                Entry::File { path, content }
            };
            entries.insert(path, entry);
        }
        entries.into_values().collect()
    }
}

/// Whether the kernel starts it by a loader.
fn has_interpreter(program: &[u8]) -> Result<bool> {
    let elf = ElfFile64::<object::Endianness>::parse(program)?;
    let endian = elf.elf_header().endian()?;
    let mut headers = elf.elf_program_headers().iter();
    Ok(headers.any(|header| header.p_type(endian) == object::elf::PT_INTERP))
}

/// The loader and the libraries of a program, by their paths here.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let said = host::output(Command::new("ldd").arg(program))?;
    let libraries = parse(&said);
    if let Some(line) = said.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    Ok(libraries)
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and without an arrow the loader;
/// what has no path is the kernel's.
fn parse(ldd: &str) -> Vec<String> {
    ldd.lines()
        .filter_map(|line| {
            let path = line.rsplit("=> ").next()?.split_whitespace().next()?;
            path.starts_with('/').then(|| path.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_where_ldd_finds_them() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f16)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f16)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f16)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse(said), expected);
    }

    #[test]
    fn folders_come_before_what_is_in_them() -> Result<()> {
        let content = Content::licences()?;
        let paths: Vec<&str> = content
            .entries()
            .iter()
            .map(|entry| match entry {
                Entry::Dir(path) | Entry::File { path, .. } => *path,
                _ => "a program",
            })
            .collect();
        let expected = [
            "/licenses",
            "/licenses/execblock",
            "/licenses/execblock/LICENSE-APACHE",
            "/licenses/execblock/LICENSE-MIT",
        ];
        assert_eq!(paths, expected);
        Ok(())
    }

    #[test]
    fn the_build_of_a_test_is_not_static() -> Result<()> {
        let own = fs::read(std::env::current_exe()?)?;
        assert!(has_interpreter(&own)?);
        Ok(())
    }
}
