//! Proof that the kernel's overlay file system is laid out as the programs read
//! it: of a small overlay of our own a file of its lower layer must run, and one
//! of its upper layer must not.
//!
//! It is mounted where nobody else sees it.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{CGROUP_PREFIX, CanaryError, Seen, exec, forget};
use crate::{
    annotation::{Drift, Mode},
    cgroup::{Hierarchy, Scratch},
    entry::{self, Terms},
    kernel::Maps,
    lock::RUN_DIR,
    policy::{Policy, Rules},
    site::{Namespaces, Site, SiteError},
};

/// Why drift is not to be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriftError {
    /// A file of the upper layer ran.
    #[error("a file that was new in an overlay ran: the kernel lays overlay out otherwise")]
    Ran,
    /// A file of the lower layer did not.
    #[error("a file of an image was refused: the kernel lays overlay out otherwise")]
    Refused,
    /// No overlay to try it on.
    #[error("could not be tried: {call}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No root to name.
    #[error("could not be tried: {0}")]
    Site(#[from] SiteError),
    /// The same as with any canary.
    #[error(transparent)]
    Canary(#[from] CanaryError),
}

/// The smallest program that ends with status 0: an ELF header, one segment that
/// begins with the file, and two or three instructions.
#[cfg(target_arch = "x86_64")]
mod program {
    /// `EM_X86_64`
    pub(super) const MACHINE: u16 = 62;
    /// mov $60, %eax; xor %edi, %edi; syscall
    pub(super) const CODE: &[u8] = &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
}
#[cfg(target_arch = "aarch64")]
mod program {
    /// `EM_AARCH64`
    pub(super) const MACHINE: u16 = 183;
    /// mov x0, #0; mov x8, #93; svc #0
    pub(super) const CODE: &[u8] = &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4];
}

fn program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    const EXECUTABLE: u16 = 2;
    const LOAD: u32 = 1;
    const READ_AND_EXECUTE: u32 = 5;
    let size = HEADERS + program::CODE.len() as u64;
    // 64 bits, little endian, version 1, System V.
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [EXECUTABLE, program::MACHINE] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    // Entry, offsets of program and section headers.
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    // Sizes and numbers of the headers.
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [LOAD, READ_AND_EXECUTE] {
        elf.extend(word.to_le_bytes());
    }
    // Offset, two addresses, two sizes, alignment.
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(program::CODE);
    elf
}

/// Tries it with programs that are attached and use `maps`, which nobody else
/// uses yet. Leaves the maps empty.
///
/// # Errors
///
/// What went otherwise than it must.
pub(crate) fn run(hierarchy: &Hierarchy, maps: &mut Maps) -> Result<(), DriftError> {
    // In a mount namespace of its own, which goes with the thread.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let root = overlay(Path::new(RUN_DIR))?;
            let scratch = hierarchy
                .create(&format!("{CGROUP_PREFIX}{}", std::process::id()))
                .map_err(CanaryError::from)?;
            let result = experiments(&scratch, maps, &root);
            maps.remove_container(scratch.cgroup().id)
                .map_err(CanaryError::from)?;
            forget(maps).map_err(CanaryError::from)?;
            maps.discard_events().map_err(CanaryError::from)?;
            maps.clear_stats().map_err(CanaryError::from)?;
            result
        });
        let gone = |_panic| failed("run a thread")(io::Error::other("it panicked"));
        thread.join().map_err(gone)?
    })
}

fn experiments(scratch: &Scratch, maps: &mut Maps, root: &Path) -> Result<(), DriftError> {
    let own = std::process::id().cast_signed();
    let terms = Terms {
        mode: Mode::Enforce,
        drift: Drift::Deny,
        site: Site::of(own, root, Namespaces::default(), true)?,
        since: None,
    };
    let policy = Policy::compile(&Rules::default());
    entry::bind(maps, scratch.cgroup(), &policy, terms).map_err(CanaryError::from)?;
    let refused =
        |name: &str| -> Result<Option<Seen>, CanaryError> { exec(scratch, &root.join(name), &[]) };
    if refused("image")?.is_some() {
        return Err(DriftError::Refused);
    }
    if refused("new")?.is_none() {
        return Err(DriftError::Ran);
    }
    Ok(())
}

/// Mounts an overlay over `dir` that has the program `image` on its lower layer
/// and `new` on its upper one. Changes this thread's mount namespace to one of
/// its own.
fn overlay(dir: &Path) -> Result<PathBuf, DriftError> {
    // SAFETY: no descriptors are unshared; what is, is this thread's alone.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(failed("unshare"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("make / private"))?;
    // Layers of a file system of our own: the machine's may be an overlay itself,
    // or mounted noexec.
    let flags = MountFlags::empty();
    mount("tmpfs", dir, "tmpfs", flags, None).map_err(failed("mount a tmpfs"))?;
    for name in ["lower", "upper", "work", "root"] {
        fs::create_dir(dir.join(name)).map_err(failed("mkdir on a tmpfs"))?;
    }
    write(&dir.join("lower/image")).map_err(failed("write to a tmpfs"))?;
    let below = dir.display();
    let options = format!("lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work");
    let options = CString::new(options).map_err(io::Error::from);
    let options = options.map_err(failed("name an overlay"))?;
    let root = dir.join("root");
    mount("overlay", &root, "overlay", flags, options.as_c_str())
        .map_err(failed("mount an overlay"))?;
    write(&root.join("new")).map_err(failed("write to an overlay"))?;
    Ok(root)
}

fn write(path: &Path) -> io::Result<()> {
    use std::io::Write as _;
    const EXECUTABLE: u32 = 0o700;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(EXECUTABLE)
        .open(path)?;
    file.write_all(&program())?;
    // Whatever the umask.
    file.set_permissions(fs::Permissions::from_mode(EXECUTABLE))
}

fn failed<E: Into<io::Error>>(call: &'static str) -> impl Fn(E) -> DriftError {
    move |source| DriftError::Io {
        call,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_ends_with_status_0() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        write(&path).unwrap();
        assert!(std::process::Command::new(path).status().unwrap().success());
    }
}
