//! The only file that reads kernel memory.
//!
//! Offsets are in `.rodata`: user space takes them from the running kernel's
//! BTF and freezes them at load, so the verifier sees constants. Fields on the
//! way to a *name* are typed loads: the verifier checks each against the
//! kernel's BTF and refuses a wrong offset. Strings, and the walk through the
//! mounts (which needs `struct mount` around a `struct vfsmount`, a step back
//! that the verifier can't follow), are probe reads; each reports failure.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user_str,
};
use plugin_common::NAME_CAPACITY;

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        static $name: i64 = $value;
    )*};
}

constants! {
    /// What a refused exec returns. Read from memory because `-1` behind a
    /// condition becomes a negation whose range the verifier can't tell.
    EPERM_NEGATIVE = -1;
    /// `linux_binprm.filename`
    BPRM_FILENAME = 0;
    /// `linux_binprm.interp`
    BPRM_INTERP = 0;
    /// `linux_binprm.file`
    BPRM_FILE = 0;
    /// `file.f_path.dentry`
    FILE_DENTRY = 0;
    /// `file.f_path.mnt`
    FILE_MNT = 0;
    /// `dentry.d_name.len`
    DENTRY_LEN = 0;
    /// `dentry.d_name.name`
    DENTRY_NAME = 0;
    /// `dentry.d_parent`
    DENTRY_PARENT = 0;
    /// `vfsmount.mnt_root`
    VFSMOUNT_ROOT = 0;
    /// `mount.mnt`
    MOUNT_VFSMOUNT = 0;
    /// `mount.mnt_parent`
    MOUNT_PARENT = 0;
    /// `mount.mnt_mountpoint`
    MOUNT_MOUNTPOINT = 0;
}

/// Reads a constant that user space set at load.
#[inline(always)]
fn constant(of: &'static i64) -> usize {
    // SAFETY: a reference to a static is valid; volatile because the compiler
    // must not take the value that stands in the source.
    unsafe { ptr::read_volatile(of) as usize }
}

/// `-EPERM`.
#[inline(always)]
pub fn eperm() -> i32 {
    // SAFETY: as in `constant`.
    unsafe { ptr::read_volatile(&EPERM_NEGATIVE) as i32 }
}

/// A pointer that the verifier knows the type of.
type Typed = *const c_void;

/// Loads a `T` at `base + offset`, checked by the verifier.
#[inline(always)]
fn load<T: Copy>(base: Typed, offset: usize) -> T {
    // SAFETY: the verifier admits the load only where kernel BTF has a field of
    // this size there; a fault inside it reads as zero.
    unsafe { ptr::read_volatile(base.byte_add(offset).cast::<T>()) }
}

/// Reads a `u64` at an address, or `None` where the kernel can't.
#[inline(always)]
fn probe(address: u64) -> Option<u64> {
    let mut value = 0_u64;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(
            ptr::from_mut(&mut value).cast(),
            size_of::<u64>() as u32,
            address as *const c_void,
        )
    };
    (failed == 0).then_some(value)
}

/// The kernel's `struct linux_binprm`.
pub struct Bprm(Typed);

impl Bprm {
    #[inline(always)]
    pub fn new(bprm: *const c_void) -> Self {
        Self(bprm)
    }

    /// Address of the kernel's copy of the string given to exec; `/dev/fd/N`
    /// where exec was given a descriptor.
    #[inline(always)]
    pub fn filename(&self) -> u64 {
        load(self.0, constant(&BPRM_FILENAME))
    }

    /// Address of the name of this level: the interpreter's as the script writes
    /// it, or [`Self::filename`] itself where there is no script.
    #[inline(always)]
    pub fn interp(&self) -> u64 {
        load(self.0, constant(&BPRM_INTERP))
    }

    /// The file of this level of interpreters, after symlinks.
    #[inline(always)]
    pub fn file(&self) -> File {
        File(load(self.0, constant(&BPRM_FILE)))
    }
}

/// The kernel's `struct file`.
pub struct File(Typed);

impl File {
    /// Address and length of the last component of the file's path.
    #[inline(always)]
    pub fn name(&self) -> (u64, u32) {
        let dentry: Typed = load(self.0, constant(&FILE_DENTRY));
        (
            load(dentry, constant(&DENTRY_NAME)),
            load(dentry, constant(&DENTRY_LEN)),
        )
    }

    /// The place of the file in its tree of mounts.
    #[inline(always)]
    pub fn place(&self) -> Place {
        Place {
            dentry: load(self.0, constant(&FILE_DENTRY)),
            vfsmount: load(self.0, constant(&FILE_MNT)),
        }
    }
}

/// A dentry and its mount, by address.
pub struct Place {
    dentry: u64,
    vfsmount: u64,
}

/// A step from a [`Place`] towards the root.
pub enum Step {
    /// To the directory above, which has the component's name just read.
    Up(Place),
    /// The place is the root of a mount: its mount point stands for it.
    Mount(Place),
    /// The place is the root of the mount namespace (or hangs on no tree).
    Root,
}

impl Place {
    /// Address of the name of the component here.
    #[inline(always)]
    pub fn name(&self) -> Option<u64> {
        probe(self.dentry + constant(&DENTRY_NAME) as u64)
    }

    /// What is above, or `None` where it can't be read.
    #[inline(always)]
    pub fn step(&self) -> Option<Step> {
        if self.dentry == probe(self.vfsmount + constant(&VFSMOUNT_ROOT) as u64)? {
            let mount = self.vfsmount - constant(&MOUNT_VFSMOUNT) as u64;
            let parent = probe(mount + constant(&MOUNT_PARENT) as u64)?;
            if parent == mount {
                return Some(Step::Root);
            }
            return Some(Step::Mount(Self {
                dentry: probe(mount + constant(&MOUNT_MOUNTPOINT) as u64)?,
                vfsmount: parent + constant(&MOUNT_VFSMOUNT) as u64,
            }));
        }
        let parent = probe(self.dentry + constant(&DENTRY_PARENT) as u64)?;
        if parent == self.dentry {
            // Above the mount's root or outside of any tree (memfd, unlinked).
            return Some(Step::Root);
        }
        Some(Step::Up(Self {
            dentry: parent,
            vfsmount: self.vfsmount,
        }))
    }
}

/// Reads a string of the kernel's; the length without the NUL, or `None`.
#[inline(always)]
pub fn kernel_string(to: &mut [u8; NAME_CAPACITY], address: u64) -> Option<u32> {
    // SAFETY: the destination has the size that is passed.
    let taken = unsafe {
        bpf_probe_read_kernel_str(
            to.as_mut_ptr().cast(),
            NAME_CAPACITY as u32,
            address as *const c_void,
        )
    };
    length(taken)
}

/// Reads a string of the process's, only where its page is resident.
#[inline(always)]
pub fn user_string(to: &mut [u8; NAME_CAPACITY], address: u64) -> Option<u32> {
    // SAFETY: the destination has the size that is passed.
    let taken = unsafe {
        bpf_probe_read_user_str(
            to.as_mut_ptr().cast(),
            NAME_CAPACITY as u32,
            address as *const c_void,
        )
    };
    length(taken)
}

/// The helpers count the NUL; negative is an errno, zero is nothing.
#[inline(always)]
fn length(taken: i64) -> Option<u32> {
    if taken > 0 && taken <= NAME_CAPACITY as i64 {
        Some(taken as u32 - 1)
    } else {
        None
    }
}

/// Offsets in x86-64's `struct pt_regs`, which is part of the user ABI (ptrace).
const PT_REGS_RBX: u64 = 40;
const PT_REGS_RCX: u64 = 88;
const PT_REGS_RSI: u64 = 104;
const PT_REGS_RDI: u64 = 112;

/// First argument of a 64-bit or x32 syscall, from the wrapper's argument.
#[inline(always)]
pub fn user_rdi(regs: Option<u64>) -> Option<u64> {
    probe(regs? + PT_REGS_RDI)
}

/// Second argument of a 64-bit or x32 syscall.
#[inline(always)]
pub fn user_rsi(regs: Option<u64>) -> Option<u64> {
    probe(regs? + PT_REGS_RSI)
}

/// First argument of an ia32 syscall, 32 bits of it.
#[inline(always)]
pub fn user_ebx(regs: Option<u64>) -> Option<u64> {
    Some(probe(regs? + PT_REGS_RBX)? & 0xffff_ffff)
}

/// Second argument of an ia32 syscall, 32 bits of it.
#[inline(always)]
pub fn user_ecx(regs: Option<u64>) -> Option<u64> {
    Some(probe(regs? + PT_REGS_RCX)? & 0xffff_ffff)
}
