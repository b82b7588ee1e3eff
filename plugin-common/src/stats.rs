//! Counters of the eBPF programs: one value of named fields for each CPU, and
//! one for each rule of each container.

/// The one value of the per-CPU array `stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Programs of bound containers that were looked at.
    pub checked: u64,
    /// Refused with EPERM.
    pub denied: u64,
    /// Killed before their first instruction.
    pub killed: u64,
    /// Let through and reported, in audit mode.
    pub audited: u64,
    /// A name, path or layer could not be read; a deny list let the program through,
    /// allow-list and drift refused it.
    pub unreadable: u64,
    /// The kernel did not take the signal; the program was let through.
    pub kill_failed: u64,
    /// Events that did not fit into the ring buffer, or were more than their
    /// container may send. Verdicts are not affected.
    pub events_lost: u64,
    /// Refused or audited programs that the map `hits` had no room to count.
    pub hits_lost: u64,
    /// Processes of bound containers that the kernel had no memory to tag for: they
    /// leave their rules with their cgroup. On Linux 7.3 that was seen of every one on
    /// a processor without `cmpxchg16b`, and of none on one that has it.
    pub untagged: u64,
}

/// Key of the map `hits`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitKey {
    /// The bound cgroup.
    pub cgroup: u64,
    /// [`RuleValue::rule`](crate::RuleValue), which outlives a change of policy.
    pub rule: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of the map `hits`: what one rule did in one container.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Denials: programs refused, killed or audited. A program that a shell tries
    /// under all the names of its PATH counts once, as it is told once.
    pub count: u64,
    /// When the last of them was: nanoseconds of `CLOCK_BOOTTIME`.
    pub last: u64,
}

/// Value of the map `flows`; the key is the bound cgroup (`u64`): what became of
/// its events. Sent and lost are together what its rules did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Events sent.
    pub sent: u64,
    /// Events lost.
    pub lost: u64,
    /// When the current window began: nanoseconds of `CLOCK_BOOTTIME`.
    pub since: u64,
    /// Events in it, sent or not.
    pub tried: u64,
}

impl Stats {
    /// Adds the counters of another CPU.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            checked: self.checked.wrapping_add(other.checked),
            denied: self.denied.wrapping_add(other.denied),
            killed: self.killed.wrapping_add(other.killed),
            audited: self.audited.wrapping_add(other.audited),
            unreadable: self.unreadable.wrapping_add(other.unreadable),
            kill_failed: self.kill_failed.wrapping_add(other.kill_failed),
            events_lost: self.events_lost.wrapping_add(other.events_lost),
            hits_lost: self.hits_lost.wrapping_add(other.hits_lost),
            untagged: self.untagged.wrapping_add(other.untagged),
        }
    }
}
