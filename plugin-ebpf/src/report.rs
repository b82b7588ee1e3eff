//! Counters and events. Neither changes a verdict.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_current_comm, bpf_ktime_get_boot_ns},
    },
};
use plugin_common::{Hit, HitKey, NAME_CAPACITY, RuleKey, Source, Stats};

use crate::maps::{EVENTS, HITS, STATS};

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

/// Sends an event, or counts its loss.
#[inline(always)]
pub fn event(key: &RuleKey, cgroup: u64, rule: u32, source: Source, mechanism: u32, refused: bool) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        count(|stats| &mut stats.events_lost);
        return;
    };
    let to = entry.as_mut_ptr();
    // Field by field: a whole Event would not fit on the stack beside the key.
    // SAFETY: the entry is ours until it is submitted and has room for an Event;
    // every field is written. The helpers get the size of what they fill.
    unsafe {
        (*to).time = bpf_ktime_get_boot_ns();
        (*to).cgroup = cgroup;
        (*to).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*to).uid = bpf_get_current_uid_gid() as u32;
        (*to).policy = key.policy;
        (*to).rule = rule;
        (*to).mechanism = mechanism;
        (*to).refused = u32::from(refused);
        (*to).source = source as u32;
        (*to).name_len = key.len;
        let comm = &raw mut (*to).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&*comm) as u32);
        let from: *const u64 = key.name.as_ptr().cast();
        let words: *mut u64 = (&raw mut (*to).name).cast();
        for index in 0..NAME_CAPACITY / size_of::<u64>() {
            words.add(index).write_volatile(from.add(index).read());
        }
    }
    entry.submit(0);
}
