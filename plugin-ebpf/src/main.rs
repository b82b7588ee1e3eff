//! The hooks, a few lines each: take the kernel's arguments, ask [`check`],
//! turn the verdict into what the hook returns.
//!
//! | program | hook | what a denied exec sees |
//! |---|---|---|
//! | `lsm_exec` | LSM `bprm_check_security` | EPERM |
//! | `fmod_ret_exec` | fmod_ret on `security_bprm_check` | EPERM |
//! | `kprobe_execve`, `kprobe_execveat` | kprobe on the 64-bit and x32 syscalls | EPERM |
//! | `kprobe_execve32`, `kprobe_execveat32` | kprobe on the ia32 syscalls | EPERM |
//! | `signal_exec` | BTF tracepoint `sched_process_exec` | SIGKILL before its first instruction |
//! | `signal_again` | tracepoint `sched:sched_process_exec` of perf | the same, where that was passed over |
//! | `lsm_image` | LSM `bprm_committed_creds` | the same, for what only the arguments tell |
//!
//! | program | hook | what it is for |
//! |---|---|---|
//! | `lsm_mmap`, `lsm_mprotect` | LSM `mmap_file`, `file_mprotect` | a file that the dynamic loader makes executable: EPERM |
//! | `fmod_ret_mmap`, `fmod_ret_mprotect` | fmod_ret on `security_mmap_file`, `security_file_mprotect` | the same |
//! | `fork` | BTF tracepoint `task_newtask` | a new process carries its parent's tag |
//! | `lsm_fork` | LSM `task_alloc` | the same |
//! | `carried` | iterator over tasks | reading its pin tells which cgroups they carry |
//!
//! None of them sleeps: a sleepable program could be held up on one CPU while
//! the denied exec passes on it, where the kernel has a recursion guard. It has none
//! for LSM programs since Linux 6.2, so that `lsm` has no others from there on. Others
//! can be held up too: fmod_ret always, BTF tracepoints since Linux 7.0.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the build asks for core's unstable parts anyway"
)]

mod applet;
mod case;
mod check;
mod container;
mod drift;
mod field;
mod lookup;
mod maps;
mod offsets;
mod report;
mod told;
mod walk;

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{generated::bpf_override_return, generated::bpf_send_signal},
    macros::{btf_tracepoint, kprobe, lsm, tracepoint},
    programs::{BtfTracePointContext, FEntryContext, LsmContext, ProbeContext, TracePointContext},
};
use plugin_common::{MECHANISM_FMOD_RET, MECHANISM_LSM};

use crate::{
    case::Conclusion,
    field::{Bprm, File, Mapping, Output, Record, Task},
};

const SIGKILL: u32 = 9;

/// Runs once for each level of interpreters: for the script and for its
/// interpreter (`search_binary_handler` in fs/exec.c).
#[lsm(hook = "bprm_check_security")]
pub fn lsm_exec(ctx: LsmContext) -> i32 {
    // The argument behind the hook's own is the verdict so far; an earlier
    // refusal is kept.
    let so_far: i32 = ctx.arg(1);
    if so_far != 0 {
        return so_far;
    }
    if check::level(&Bprm::new(ctx.arg(0)), MECHANISM_LSM) {
        return offsets::eperm();
    }
    0
}

/// The same place in the kernel as [`lsm_exec`], reachable without `bpf` in the
/// list of active LSMs. aya has no such program type: the section says fentry,
/// and the loader asks the kernel for fmod_ret. Both have the same context, but
/// the macro for fentry drops what is returned, so this does without.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/security_bprm_check")]
pub extern "C" fn fmod_ret_exec(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    let so_far: i32 = ctx.arg(1);
    if so_far != 0 {
        return so_far;
    }
    if check::level(&Bprm::new(ctx.arg(0)), MECHANISM_FMOD_RET) {
        return offsets::eperm();
    }
    0
}

/// Readable, of a mapping's protection.
const PROT_READ: u64 = 1;
/// Executable, of a mapping's protection.
const PROT_EXEC: u64 = 4;

/// A file is mapped: by the kernel for a program, by the dynamic loader for what
/// it was asked to run and for libraries.
#[lsm(hook = "mmap_file")]
pub fn lsm_mmap(ctx: LsmContext) -> i32 {
    let so_far: i32 = ctx.arg(4);
    if so_far != 0 {
        return so_far;
    }
    // What is asked for, and what the kernel makes of it (READ_IMPLIES_EXEC).
    let asked: u64 = ctx.arg(1);
    let made: u64 = ctx.arg(2);
    mmap(ctx.arg(0), asked | made, MECHANISM_LSM)
}

/// As [`lsm_mmap`], of which the kernel has told only what is asked for here
/// (`mmap_prot` in security/security.c comes behind).
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/security_mmap_file")]
pub extern "C" fn fmod_ret_mmap(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    let so_far: i32 = ctx.arg(3);
    if so_far != 0 {
        return so_far;
    }
    let mut protection: u64 = ctx.arg(1);
    if protection & PROT_READ != 0 && Task::current().executes_what_it_reads() {
        protection |= PROT_EXEC;
    }
    mmap(ctx.arg(0), protection, MECHANISM_FMOD_RET)
}

#[inline(always)]
fn mmap(file: *const c_void, protection: u64, mechanism: u32) -> i32 {
    if protection & PROT_EXEC != 0
        && let Some(file) = File::new(file)
        && check::mapped(&file, mechanism)
    {
        return offsets::eperm();
    }
    0
}

/// What was mapped readable becomes executable.
#[lsm(hook = "file_mprotect")]
pub fn lsm_mprotect(ctx: LsmContext) -> i32 {
    let so_far: i32 = ctx.arg(3);
    if so_far != 0 {
        return so_far;
    }
    let asked: u64 = ctx.arg(1);
    let made: u64 = ctx.arg(2);
    mprotect(ctx.arg(0), asked | made, MECHANISM_LSM)
}

/// As [`lsm_mprotect`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/security_file_mprotect")]
pub extern "C" fn fmod_ret_mprotect(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    let so_far: i32 = ctx.arg(3);
    if so_far != 0 {
        return so_far;
    }
    let asked: u64 = ctx.arg(1);
    let made: u64 = ctx.arg(2);
    mprotect(ctx.arg(0), asked | made, MECHANISM_FMOD_RET)
}

#[inline(always)]
fn mprotect(vma: *const c_void, protection: u64, mechanism: u32) -> i32 {
    if protection & PROT_EXEC != 0 && check::protected(&Mapping::new(vma), mechanism) {
        return offsets::eperm();
    }
    0
}

/// A new process or thread, before it runs.
#[btf_tracepoint(function = "task_newtask")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    container::inherit(&Task::new(ctx.arg(0)));
    0
}

/// As [`fork`]. What a new process that comes to nothing has is freed with it
/// (`free_task` in kernel/fork.c).
#[lsm(hook = "task_alloc")]
pub fn lsm_fork(ctx: LsmContext) -> i32 {
    let so_far: i32 = ctx.arg(2);
    if so_far == 0 {
        container::inherit(&Task::new(ctx.arg(0)));
    }
    so_far
}

/// Whoever reads its pin gets the cgroup id of each task's tag, eight bytes each: of
/// those alone that are alive and in the reader's pid namespace (Linux 5.8). There is no
/// macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn carried(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    let task: *const c_void = ctx.arg(1);
    // Behind the last one.
    if !task.is_null() {
        container::tell(&Task::new(task), &Output::new(ctx.arg(0)));
    }
    0
}

/// Runs once, for the last file of a chain of interpreters, when the new image
/// is in place and nothing of it has run.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn signal_exec(ctx: BtfTracePointContext) -> i32 {
    kill(check::image(&Bprm::new(ctx.arg(2))));
    0
}

/// The same place in the kernel as [`signal_exec`]. On Linux 7.0 and newer the kernel
/// passes over that for an exec that comes while it is held up on the CPU; this one can't
/// be held up, as perf does not let its tracepoints be preempted (`perf_trace_…` in
/// include/trace/perf.h).
#[tracepoint]
pub fn signal_again(ctx: TracePointContext) -> u32 {
    kill(check::image_of_task(&Record::new(ctx.as_ptr())));
    0
}

/// Behind [`lsm_exec`]: runs once, for the last file of a chain of interpreters, when
/// the new memory is in place with the arguments in it, and it is too late for a refusal.
#[lsm(hook = "bprm_committed_creds")]
pub fn lsm_image(ctx: LsmContext) -> i32 {
    kill(check::called(&Bprm::new(ctx.arg(0))));
    0
}

#[inline(always)]
fn kill(conclusion: Conclusion) {
    if !conclusion.refused {
        return;
    }
    // SAFETY: the helper takes a number and touches no memory of ours.
    if unsafe { bpf_send_signal(SIGKILL) } == 0 {
        if !conclusion.again {
            report::count(|stats| &mut stats.killed);
        }
    } else {
        // Fails open: nothing else can be done here. Counted.
        report::count(|stats| &mut stats.kill_failed);
    }
}

/// `execve(filename, …)` of the 64-bit and x32 ABIs.
#[kprobe]
pub fn kprobe_execve(ctx: ProbeContext) -> u32 {
    syscall(&ctx, field::user_rdi(ctx.arg(0)))
}

/// `execveat(dirfd, filename, …)` of the 64-bit and x32 ABIs.
#[kprobe]
pub fn kprobe_execveat(ctx: ProbeContext) -> u32 {
    syscall(&ctx, field::user_rsi(ctx.arg(0)))
}

/// `execve` of the ia32 ABI, also by `int 0x80` from a 64-bit process.
#[kprobe]
pub fn kprobe_execve32(ctx: ProbeContext) -> u32 {
    syscall(&ctx, field::user_ebx(ctx.arg(0)))
}

/// `execveat` of the ia32 ABI.
#[kprobe]
pub fn kprobe_execveat32(ctx: ProbeContext) -> u32 {
    syscall(&ctx, field::user_ecx(ctx.arg(0)))
}

/// A courtesy: the name is in user memory, may be absent or change under us.
/// [`signal_exec`] stands behind it, so every failure here fails open.
#[inline(always)]
fn syscall(ctx: &ProbeContext, filename: Option<u64>) -> u32 {
    if let Some(filename) = filename
        && check::syscall(filename)
    {
        // SAFETY: the context of a kprobe is the registers that it interrupted;
        // the kernel admits this helper on syscalls alone.
        unsafe { bpf_override_return(ctx.as_ptr().cast(), offsets::eperm() as i64 as u64) };
    }
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel's licence check.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
