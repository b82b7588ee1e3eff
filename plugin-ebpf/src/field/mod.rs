//! The only module that reads kernel memory.
//!
//! Fields on the way to a *name*, a device or a namespace are typed loads: the verifier checks
//! each against the kernel's BTF and refuses a wrong offset. Probe reads are
//! left where the verifier can't follow, and each reports failure:
//! - strings;
//! - the walk through the mounts, which needs `struct mount` around a
//!   `struct vfsmount`;
//! - the part of an overlay's inode that lies around `struct inode`, and the
//!   part of a `struct backing_file` behind `struct file`;
//! - what is read for a report alone, when the verdict stands.
//!
//! A file is typed where a hook has one, and an address where it was found in
//! such a part.

mod file;
mod registers;
mod task;

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};

pub use self::{
    file::{Bprm, Climb, File, Mapping, Origin, Place, Step},
    registers::{user_ebx, user_ecx, user_rdi, user_rsi},
    task::{Output, Record, Task, comm, id},
};

/// A pointer that the verifier knows the type of.
type Typed = *const c_void;

/// Loads a `T` at `base + offset`, checked by the verifier.
#[inline(always)]
fn load<T: Copy>(base: Typed, offset: usize) -> T {
    // SAFETY: the verifier admits the load only where kernel BTF has a field of
    // this size there; a fault inside it reads as zero.
    unsafe { ptr::read_volatile(base.byte_add(offset).cast::<T>()) }
}

/// Loads an address as a plain number. Since Linux 6.17 the verifier follows even
/// pointers to characters, and a number is what the lookups take. The copy is of
/// our own stack and can't fail.
#[inline(always)]
fn address(base: Typed, offset: usize) -> u64 {
    let pointer: Typed = load(base, offset);
    number(ptr::from_ref(&pointer).cast(), 0).unwrap_or(0)
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

/// Reads a `u32` at an address, or `None` where the kernel can't.
#[inline(always)]
fn probe32(address: u64) -> Option<u32> {
    let mut value = 0_u32;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(
            ptr::from_mut(&mut value).cast(),
            size_of::<u32>() as u32,
            address as *const c_void,
        )
    };
    (failed == 0).then_some(value)
}

/// Reads the `u64` at an offset of a typed pointer as a plain number, which a
/// typed load would make a pointer of.
#[inline(always)]
fn number(base: Typed, offset: usize) -> Option<u64> {
    let mut value = 0_u64;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(
            ptr::from_mut(&mut value).cast(),
            size_of::<u64>() as u32,
            base.byte_add(offset),
        )
    };
    (failed == 0).then_some(value)
}

/// Reads a string of the kernel's; the length without the NUL, or `None`.
#[inline(always)]
pub fn kernel_string<const N: usize>(to: &mut [u8; N], address: u64) -> Option<u32> {
    // SAFETY: the destination has the size that is passed.
    let taken = unsafe {
        bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), N as u32, address as *const c_void)
    };
    length(taken, N)
}

/// Reads a string of the process's, only where its page is resident.
#[inline(always)]
pub fn user_string<const N: usize>(to: &mut [u8; N], address: u64) -> Option<u32> {
    // SAFETY: the destination has the size that is passed.
    let taken = unsafe {
        bpf_probe_read_user_str(to.as_mut_ptr().cast(), N as u32, address as *const c_void)
    };
    length(taken, N)
}

/// Reads eight bytes of the kernel's.
#[inline(always)]
pub fn kernel_word(address: u64) -> Option<u64> {
    probe(address)
}

/// Reads eight bytes of the process's, only where their page is resident.
#[inline(always)]
pub fn user_word(address: u64) -> Option<u64> {
    let mut word = 0_u64;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_user(ptr::from_mut(&mut word).cast(), 8, address as *const c_void)
    };
    (failed == 0).then_some(word)
}

/// Reads one byte of the kernel's.
#[inline(always)]
pub fn kernel_byte(address: u64) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(ptr::from_mut(&mut byte).cast(), 1, address as *const c_void)
    };
    (failed == 0).then_some(byte)
}

/// Reads one byte of the process's, only where its page is resident.
#[inline(always)]
pub fn user_byte(address: u64) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_user(ptr::from_mut(&mut byte).cast(), 1, address as *const c_void)
    };
    (failed == 0).then_some(byte)
}

/// The helpers count the NUL; negative is an errno, zero is nothing.
#[inline(always)]
fn length(taken: i64, capacity: usize) -> Option<u32> {
    if taken > 0 && taken <= capacity as i64 {
        Some(taken as u32 - 1)
    } else {
        None
    }
}
