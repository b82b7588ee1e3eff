//! What a syscall was called with: registers of x86-64 and the argument vector of an
//! exec.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use super::probe;

/// Offsets in x86-64's `struct pt_regs`, which is part of the user ABI (ptrace).
const PT_REGS_RBX: u64 = 40;
const PT_REGS_RCX: u64 = 88;
const PT_REGS_RDX: u64 = 96;
const PT_REGS_RSI: u64 = 104;
const PT_REGS_RDI: u64 = 112;
const PT_REGS_ORIG_RAX: u64 = 120;

/// The first element of an exec's argument vector, by the number of its syscall
/// (arch/x86/entry/syscalls). No number of one ABI is an exec of another.
#[inline(always)]
pub(super) fn argument(regs: u64) -> Option<u64> {
    let number = probe(regs + PT_REGS_ORIG_RAX)? & 0xffff_ffff;
    let (register, wide) = match number {
        // execve, execveat
        59 => (PT_REGS_RSI, true),
        322 => (PT_REGS_RDX, true),
        // of x32, by its own numbers 520 and 545
        0x4000_0208 => (PT_REGS_RSI, false),
        0x4000_0221 => (PT_REGS_RDX, false),
        // of ia32
        11 => (PT_REGS_RCX, false),
        358 => (PT_REGS_RDX, false),
        _ => return None,
    };
    let vector = probe(regs + register)?;
    let mut first = 0_u64;
    let (size, vector) = if wide {
        (8, vector)
    } else {
        (4, vector & 0xffff_ffff)
    };
    // SAFETY: the destination is ours and not shorter than the size that is passed.
    let failed = unsafe {
        bpf_probe_read_user(
            ptr::from_mut(&mut first).cast(),
            size,
            vector as *const c_void,
        )
    };
    (failed == 0).then_some(first)
}

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
