//! Counters and events. Neither changes a verdict.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_current_comm, bpf_ktime_get_boot_ns},
    },
};
use plugin_common::{Hit, HitKey, NAME_CAPACITY, RULE_MOVED, Source, Stats};

use crate::{
    field,
    maps::{EVENTS, HITS, STATS},
};

/// Adds one to a counter. Atomic, since the programs are preemptible.
#[inline(always)]
pub fn count(counter: impl FnOnce(&mut Stats) -> &mut u64) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: the map's value is a valid Stats; the field is only ever
        // changed atomically.
        unsafe {
            let counter: *mut u64 = counter(&mut *stats);
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1);
        }
    }
}

/// Counts what a rule did in a container.
#[inline(always)]
pub fn hit(cgroup: u64, rule: u32) {
    let key = HitKey {
        cgroup,
        rule,
        reserved: 0,
    };
    // SAFETY: the helper takes nothing and returns a number.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if HITS.get_ptr_mut(&key).is_none() {
        // Another CPU may have made it meanwhile, which is as good.
        let new = Hit { count: 0, last: 0 };
        let _made = HITS.insert(&key, &new, u64::from(BPF_NOEXIST));
    }
    match HITS.get_ptr_mut(&key) {
        // SAFETY: the map's value is a valid Hit; the counter is only ever
        // changed atomically, the time is whoever's came last.
        Some(hit) => unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*hit).count, 1);
            (&raw mut (*hit).last).write_volatile(now);
        },
        None => count(|stats| &mut stats.hits_lost),
    }
}

/// What is told about a verdict.
pub struct Told {
    pub cgroup: u64,
    pub policy: u32,
    pub rule: u32,
    pub mechanism: u32,
    pub refused: bool,
    pub outside: bool,
    pub name: Name,
}

/// The name that matched, read again for the report.
#[derive(Clone, Copy)]
pub struct Name {
    /// Where it stands; 0 where there is none.
    pub address: u64,
    /// Whether that is in the process's memory.
    pub user: bool,
    /// By what the program was recognised.
    pub source: Source,
}

/// Says once that a process left its cgroup.
#[inline(always)]
pub fn moved(cgroup: u64, policy: u32, mechanism: u32) {
    hit(cgroup, RULE_MOVED);
    event(&Told {
        cgroup,
        policy,
        rule: RULE_MOVED,
        mechanism,
        refused: false,
        outside: true,
        name: Name {
            address: 0,
            user: false,
            source: Source::Requested,
        },
    });
}

/// Sends an event, or counts its loss.
#[inline(always)]
pub fn event(told: &Told) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        count(|stats| &mut stats.events_lost);
        return;
    };
    let to = entry.as_mut_ptr();
    // Field by field: a whole Event would not fit on the stack.
    // SAFETY: the entry is ours until it is submitted and has room for an Event;
    // every field is written. The helpers get the size of what they fill.
    unsafe {
        (*to).time = bpf_ktime_get_boot_ns();
        (*to).cgroup = told.cgroup;
        (*to).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*to).uid = bpf_get_current_uid_gid() as u32;
        (*to).policy = told.policy;
        (*to).rule = told.rule;
        (*to).mechanism = told.mechanism;
        (*to).refused = u32::from(told.refused);
        (*to).source = told.name.source as u32;
        (*to).outside = u32::from(told.outside);
        (*to).reserved = 0;
        let comm = &raw mut (*to).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&*comm) as u32);
        let words: *mut u64 = (&raw mut (*to).name).cast();
        for index in 0..NAME_CAPACITY / size_of::<u64>() {
            words.add(index).write_volatile(0);
        }
        let name = &mut (*to).name;
        let len = match (told.name.address, told.name.user) {
            (0, _) => None,
            (address, false) => field::kernel_string(name, address),
            (address, true) => field::user_string(name, address),
        };
        (*to).name_len = match len {
            Some(len) => len,
            None => 0,
        };
    }
    entry.submit(0);
}
