//! A program as the kernel would find it in a container: which file a name
//! stands for there, which interpreters and which loader it brings. Reads only.

mod mounts;
mod shebang;

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use object::{
    Endianness, FileKind, ReadCache,
    elf::{FileHeader32, FileHeader64},
    read::elf::{FileHeader, ProgramHeader as _},
};
use plugin_common::Source;
use procfs::process::{MountInfo, Process};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use self::mounts::Mounts;
use crate::matching::{self, Whence};

/// Where programs are looked for when the container's environment doesn't say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most files that the kernel goes through: scripts and the program in the end
/// (`exec_binprm` in fs/exec.c).
const LEVELS: usize = 6;

/// Why a container can't be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A file of its first process.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// A file of procfs.
    #[error("process {pid}: {source}")]
    Proc {
        /// Its id.
        pid: i32,
        /// What procfs said.
        source: procfs::ProcError,
    },
}

/// A container's files, as its first process sees them.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// The root as this process sees it.
    shown: PathBuf,
    /// The working directory inside the root.
    directory: PathBuf,
    /// Where programs are looked for.
    path: OsString,
    mounts: Mounts,
}

/// A file in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its own name.
    pub name: Vec<u8>,
    /// Its path in its mount namespace.
    pub path: Vec<u8>,
    /// Where it lies.
    pub whence: Whence,
    /// Why that is not known.
    pub unknown: Option<String>,
}

impl File {
    /// For the rules.
    #[must_use]
    pub fn facts(&self) -> matching::File<'_> {
        matching::File {
            name: &self.name,
            path: &self.path,
            whence: self.whence,
        }
    }
}

/// One file of a chain of interpreters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// As it was given to exec, or as it stands behind `#!`.
    pub requested: Vec<u8>,
    /// The file behind it.
    pub file: File,
}

/// A file that is mapped beside the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// As the program asks for it.
    pub requested: Vec<u8>,
    /// The file behind it.
    pub file: File,
}

/// What the kernel would go through for one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The string given to exec: for a bare name where it was found.
    pub requested: Vec<u8>,
    /// The script, its interpreters, and the program in the end.
    pub levels: Vec<Level>,
    /// The arguments of the last of them.
    pub arguments: Vec<Vec<u8>>,
    /// The dynamic loader that the program names (`PT_INTERP`).
    pub loader: Option<Mapped>,
    /// The program that is handed to a dynamic loader to run.
    pub handed: Option<Mapped>,
    /// Why the kernel would not get to the end, whatever the rules.
    pub fails: Option<String>,
}

impl View {
    /// Of a process.
    ///
    /// # Errors
    ///
    /// Where its files can't be read: it ended, or this is not root.
    pub fn of_process(pid: i32) -> Result<Self, ViewError> {
        let proc = |source| ViewError::Proc { pid, source };
        let process = Process::new(pid).map_err(proc)?;
        let base = PathBuf::from(format!("/proc/{pid}"));
        let mounts = process.mountinfo().map_err(proc)?.0;
        let environ = process.environ().map_err(proc)?;
        let path = environ.get(OsStr::new("PATH")).cloned();
        let parent = process.stat().map_err(proc)?.ppid;
        let from = ["/".into(), format!("/proc/{parent}/root").into()];
        let directory = base.join("cwd");
        Self::new(&base.join("root"), &directory, path, mounts, from.into())
    }

    /// Of a root directory. `directory` is the working directory, `mounts` are
    /// those of the mount namespace that both are in, `from` roots below which
    /// the upper layer of an overlay may be found.
    ///
    /// # Errors
    ///
    /// Where one of them can't be opened.
    pub fn new(
        root: &Path,
        directory: &Path,
        path: Option<OsString>,
        mounts: Vec<MountInfo>,
        from: Vec<PathBuf>,
    ) -> Result<Self, ViewError> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|source| ViewError::Io {
                call: "open",
                path: path.to_owned(),
                source,
            })
        };
        let root = open(root)?;
        let shown = shown(&root);
        let directory = self::shown(&open(directory)?);
        Ok(Self {
            // One outside of the root has no path inside.
            directory: inside(&directory, &shown).unwrap_or_else(|| "/".into()),
            mounts: Mounts::new(mounts, root.as_fd(), from),
            path: path.unwrap_or_else(|| DEFAULT_PATH.into()),
            shown,
            root,
        })
    }

    /// The program that exec of this word, with these arguments behind it, runs.
    /// A word without a slash is looked up in the container's `PATH`, as a shell
    /// does.
    #[must_use]
    pub fn program(&self, word: &OsStr, arguments: &[OsString]) -> Program {
        let words = [word]
            .into_iter()
            .chain(arguments.iter().map(AsRef::as_ref));
        let mut program = Program {
            arguments: words.map(|word| word.as_bytes().to_vec()).collect(),
            ..Program::default()
        };
        let found = self.look_up(word.as_bytes());
        program.requested = found.requested;
        let result = found.file.and_then(|file| self.follow(&mut program, file));
        program.fails = result.err();
        program
    }

    /// What execvp does: the first directory in which exec gets anywhere.
    fn look_up(&self, word: &[u8]) -> Sought {
        if word.contains(&b'/') || word.is_empty() {
            return Sought {
                requested: word.to_vec(),
                file: self.executable(word),
            };
        }
        let mut refused = None;
        let mut first = None;
        for directory in self.path.as_bytes().split(|&byte| byte == b':') {
            let requested = match directory {
                b"" => word.to_vec(),
                directory => [directory, b"/", word].concat(),
            };
            first.get_or_insert_with(|| requested.clone());
            match self.open(&requested) {
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => {
                    let why = format!("{}: {}", lossy(&requested), plain(error));
                    refused.get_or_insert((requested, why));
                }
                Ok(_) => match self.executable(&requested) {
                    // EACCES: execvp goes on, and comes back to it at the end.
                    Err(why) => {
                        refused.get_or_insert((requested, why));
                    }
                    file => return Sought { requested, file },
                },
            }
        }
        let missing = format!(
            "no {} in the container's PATH, {}",
            lossy(word),
            self.path.display()
        );
        match refused {
            Some((requested, why)) => Sought {
                requested,
                file: Err(why),
            },
            None => Sought {
                requested: first.unwrap_or_default(),
                file: Err(missing),
            },
        }
    }

    /// Goes through the interpreters; an error is why the kernel would not.
    fn follow(&self, program: &mut Program, mut opened: OwnedFd) -> Result<(), String> {
        let mut requested = program.requested.clone();
        loop {
            let file = self.describe(&opened);
            let name = lossy(&requested).into_owned();
            program.levels.push(Level {
                requested: requested.clone(),
                file,
            });
            let content = fs::File::open(by_descriptor(&opened))
                .map_err(|error| format!("reading {name}: {error}"))?;
            let head = head(&content).map_err(|error| format!("reading {name}: {error}"))?;
            let line = shebang::line(&head).map_err(|_none| {
                format!("{name} is a script without an interpreter: the kernel answers ENOEXEC")
            })?;
            let Some(line) = line else {
                return self.image(program, &name, content);
            };
            let script = std::mem::replace(&mut requested, line.interpreter.to_vec());
            // As the kernel rewrites them: the script in place of the first.
            let argument = line.argument.map(<[u8]>::to_vec);
            let before = [requested.clone()].into_iter().chain(argument);
            let behind = program.arguments.drain(..).skip(1).collect::<Vec<_>>();
            program.arguments = before.chain([script]).chain(behind).collect();
            opened = self.executable(&requested)?;
            if program.levels.len() == LEVELS {
                return Err(format!(
                    "{name} is one script too many: the kernel answers ELOOP"
                ));
            }
        }
    }

    /// What the last file is, and the loader that it names.
    fn image(&self, program: &mut Program, name: &str, content: fs::File) -> Result<(), String> {
        let wrong = |why: &str| format!("{name} {why}: the kernel answers ENOEXEC");
        let cache = ReadCache::new(content);
        let loader = match FileKind::parse(&cache) {
            Ok(FileKind::Elf32) => interpreter::<FileHeader32<Endianness>>(&cache),
            Ok(FileKind::Elf64) => interpreter::<FileHeader64<Endianness>>(&cache),
            _ => return Err(wrong("is neither a script nor ELF")),
        }
        .map_err(|error| wrong(&format!("is not understood ({error})")))?;
        if let Some(requested) = loader {
            program.loader = Some(self.mapped(requested)?);
        }
        let words: Vec<&[u8]> = program.arguments.iter().map(Vec::as_slice).collect();
        let handed = program
            .levels
            .last()
            .and_then(|level| matching::program(&level.file.name, &words));
        // A name without a slash is a library's, looked up by the loader.
        program.handed = handed
            .filter(|(name, source)| *source == Source::Loaded && name.contains(&b'/'))
            .and_then(|(name, _)| self.readable(name));
        Ok(())
    }

    fn mapped(&self, requested: Vec<u8>) -> Result<Mapped, String> {
        let file = self.describe(&self.executable(&requested)?);
        Ok(Mapped { requested, file })
    }

    /// What a loader is asked to run: it maps what it can read, executable or not.
    fn readable(&self, name: &[u8]) -> Option<Mapped> {
        let file = self.open(name).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // The kernel maps nothing executable from there.
        (regular && !self.mounts.is_noexec(file.as_fd())).then(|| Mapped {
            requested: name.to_vec(),
            file: self.describe(&file),
        })
    }

    /// Opens what may be executed; an error is the kernel's answer to exec.
    fn executable(&self, name: &[u8]) -> Result<OwnedFd, String> {
        let shown = lossy(name);
        let file = self
            .open(name)
            .map_err(|error| format!("{shown}: {}", plain(error)))?;
        let refused = |why| Err(format!("{shown} {why}: the kernel answers EACCES"));
        let stat = rustix::fs::fstat(&file).map_err(|error| format!("{shown}: {error}"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return refused("is no regular file");
        }
        if stat.st_mode & 0o111 == 0 {
            return refused("is not executable");
        }
        if self.mounts.is_noexec(file.as_fd()) {
            return refused("lies on a file system that is mounted noexec");
        }
        Ok(file)
    }

    fn open(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        if name.is_empty() {
            return Err(Errno::NOENT);
        }
        rustix::fs::openat2(
            &self.root,
            self.directory.join(OsStr::from_bytes(name)),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn describe(&self, file: &OwnedFd) -> File {
        let path = shown(file);
        let inside = inside(&path, &self.shown).unwrap_or_else(|| path.clone());
        let (whence, unknown) = self.mounts.whence(file.as_fd(), &inside);
        let path = path.into_os_string().into_vec();
        let mounted = self.mounts.mounted_name(file.as_fd(), &inside);
        File {
            name: mounted.unwrap_or_else(|| matching::last_component(&path).to_vec()),
            path,
            whence,
            unknown,
        }
    }
}

/// What came of a look-up.
struct Sought {
    requested: Vec<u8>,
    file: Result<OwnedFd, String>,
}

fn interpreter<Elf: FileHeader<Endian = Endianness>>(
    cache: &ReadCache<fs::File>,
) -> object::read::Result<Option<Vec<u8>>> {
    let header = Elf::parse(cache)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, cache)? {
        if let Some(name) = segment.interpreter(endian, cache)? {
            return Ok(Some(name.to_vec()));
        }
    }
    Ok(None)
}

fn head(file: &fs::File) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let most = u64::try_from(shebang::HEAD).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut head)?;
    Ok(head)
}

fn by_descriptor(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The path of an open file. One that this process can't reach is shown to the
/// root of its mount namespace, which is what the kernel side compares.
fn shown(file: &OwnedFd) -> PathBuf {
    fs::read_link(by_descriptor(file)).unwrap_or_default()
}

/// The path inside of a root, both as this process sees them.
fn inside(path: &Path, root: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(root).ok()?;
    Some(Path::new("/").join(below))
}

/// The kernel's answer as a shell prints it: without "(os error 2)".
fn plain(error: Errno) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn lossy(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}

#[cfg(test)]
mod tests;
