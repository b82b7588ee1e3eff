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
    /// Bytes used of `name`.
    pub name_len: u32,
    /// 1 where the process had left the cgroup that it is bound by.
    pub outside: u32,
    /// Zero.
    pub reserved: u32,
    /// Command name of the process that called exec, padded with zeros.
    pub comm: [u8; 16],
    /// The name that matched, zero behind `name_len`.
    pub name: [u8; NAME_CAPACITY],
}
