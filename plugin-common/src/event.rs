//! What the programs tell user space through the ring buffer `events`. The
//! verdict is taken before, and does not depend on whether an event fits.

use crate::NAME_CAPACITY;

/// [`Event::mechanism`]: LSM program on `bprm_check_security`.
pub const MECHANISM_LSM: u32 = 1;
/// [`Event::mechanism`]: fmod_ret program on `security_bprm_check`.
pub const MECHANISM_FMOD_RET: u32 = 2;
/// [`Event::mechanism`]: kprobe on the syscalls with `bpf_override_return`.
pub const MECHANISM_KPROBE: u32 = 3;
/// [`Event::mechanism`]: `sched_process_exec` and SIGKILL.
pub const MECHANISM_SIGNAL: u32 = 4;

/// Bytes of a command name with its NUL (`TASK_COMM_LEN` of the kernel).
pub const COMM_CAPACITY: usize = 16;

/// Bytes of [`Event::argument`], with the NUL.
pub const ARGUMENT_CAPACITY: usize = 128;

/// Events that a container may send in each [`EVENTS_WINDOW`]; what is over is
/// counted and not sent, so that no container drowns the others.
pub const EVENTS_BURST: u64 = 100;

/// Nanoseconds.
pub const EVENTS_WINDOW: u64 = 10_000_000_000;

/// How long a shell may take to try a refused program under its next name, in
/// nanoseconds: that is one denial.
pub const DENIAL_WINDOW: u64 = 1_000_000_000;

/// One refused or audited program.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// The bound cgroup, which may be an ancestor of the process's own.
    pub cgroup: u64,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// The same in the process's own pid namespace; 0 where that lies deeper than
    /// is looked at.
    pub container_pid: u32,
    /// Thread group id of the parent, in the initial pid namespace.
    pub parent: u32,
    /// The process that came into the container's pid namespace from outside and
    /// that this one descends from, in the initial pid namespace: the container's
    /// first process, or one that the runtime executed in it. 0 where that can't be
    /// told: in no pid namespace of its own, or too far above.
    pub session: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Policy that has the rule.
    pub policy: u32,
    /// Id of the rule, or a reserved one: `RULE_…`.
    pub rule: u32,
    /// One of the `MECHANISM_…` constants.
    pub mechanism: u32,
    /// 0 where it went on (audit mode), 1 where it was refused or killed.
    pub refused: u32,
    /// A [`Source`](crate::Source) as a number.
    pub source: u32,
    /// 1 where the process had left the cgroup that it is bound by.
    pub outside: u32,
    /// 1 where `requested` was longer than what is here.
    pub cut: u32,
    /// Bytes used of `name`.
    pub name_len: u32,
    /// Bytes used of `requested`.
    pub requested_len: u32,
    /// Bytes used of `resolved`.
    pub resolved_len: u32,
    /// Bytes used of `argument`.
    pub argument_len: u32,
    /// Command name of the process that called exec, padded with zeros.
    pub comm: [u8; COMM_CAPACITY],
    /// Command name of its parent.
    pub parent_comm: [u8; COMM_CAPACITY],
    /// The name that matched; undefined behind `name_len`, as are those below.
    pub name: [u8; NAME_CAPACITY],
    /// The string given to exec; empty where there was none.
    pub requested: [u8; NAME_CAPACITY],
    /// Name of the file, after symlinks; empty where it is not known yet.
    pub resolved: [u8; NAME_CAPACITY],
    /// The program's first argument, its beginning.
    pub argument: [u8; ARGUMENT_CAPACITY],
}
