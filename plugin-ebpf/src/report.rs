//! Counters and events. Neither changes a verdict.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_current_comm, bpf_ktime_get_boot_ns},
    },
};
use plugin_common::{
    EVENTS_BURST, EVENTS_WINDOW, Event, Flow, Hit, HitKey, NAME_MAX, RULE_MOVED, Source, Stats,
};

use crate::{
    field::{self, Task},
    lookup::USER,
    maps::{EVENTS, FLOWS, HITS, STATS},
};

/// Adds one to a counter. Atomic, since the programs are preemptible.
#[inline(always)]
pub fn count(counter: impl FnOnce(&mut Stats) -> &mut u64) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: the map's value is a valid Stats.
        increase(counter(unsafe { &mut *stats }));
    }
}

#[inline(always)]
fn increase(counter: &mut u64) {
    // SAFETY: a counter in a map, which is only ever changed atomically.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Counts what a rule did in a container.
///
/// A global function, as those of [`lookup`](crate::lookup): keys and new values
/// are on a stack of their own.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hit(cgroup: u64, rule: u64) -> u64 {
    let key = HitKey {
        cgroup,
        rule: rule as u32,
        reserved: 0,
    };
    let now = now();
    if HITS.get_ptr_mut(&key).is_none() {
        // Another CPU may have made it meanwhile, which is as good.
        let new = Hit { count: 0, last: 0 };
        let _made = HITS.insert(&key, &new, u64::from(BPF_NOEXIST));
    }
    match HITS.get_ptr_mut(&key) {
        // SAFETY: the map's value is a valid Hit; the counter is only ever
        // changed atomically, the time is whoever's came last.
        Some(hit) => unsafe {
            increase(&mut (*hit).count);
            (&raw mut (*hit).last).write_volatile(now);
        },
        None => count(|stats| &mut stats.hits_lost),
    }
    0
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

/// What the program was called, by address; 0 where there is no such name.
#[derive(Clone, Copy)]
pub struct Asked {
    /// The string given to exec.
    pub requested: u64,
    /// Whether that is in the process's memory.
    pub user: bool,
    /// Name of the file.
    pub resolved: u64,
}

/// What is told about a verdict.
pub struct Report {
    pub cgroup: u64,
    pub policy: u32,
    pub rule: u32,
    pub mechanism: u32,
    pub refused: bool,
    pub outside: bool,
    pub name: Name,
    pub asked: Asked,
    /// Address of the first argument, in the process's memory; 0 where there is none.
    pub argument: u64,
}

/// Says once that a process left its cgroup.
#[inline(always)]
pub fn moved(cgroup: u64, policy: u32, mechanism: u32) {
    hit(cgroup, u64::from(RULE_MOVED));
    event(&Report {
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
        asked: Asked {
            requested: 0,
            user: false,
            resolved: 0,
        },
        argument: 0,
    });
}

/// The session that the current process belongs to, see [`Event::session`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn session() -> u64 {
    u64::from(Task::current().session().unwrap_or(0))
}

/// Its id in its own pid namespace.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn container_pid() -> u64 {
    u64::from(Task::current().own_pid().unwrap_or(0))
}

/// Address of the first argument of the exec under way, 0 where that can't be told.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn called_as() -> u64 {
    Task::first_argument()
}

/// Address of the parent of the current process.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn parent() -> u64 {
    Task::current().parent().unwrap_or(0)
}

/// 1 where there is more of a string behind its first [`NAME_MAX`] bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn goes_on(address: u64, how: u64) -> u64 {
    let behind = address + NAME_MAX as u64;
    let byte = if how & USER != 0 {
        field::user_byte(behind)
    } else {
        field::kernel_byte(behind)
    };
    u64::from(byte != Some(0))
}

/// Makes room for the flow of a cgroup that has none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin_flow(cgroup: u64) -> u64 {
    if FLOWS.get_ptr_mut(&cgroup).is_none() {
        let new = Flow {
            sent: 0,
            lost: 0,
            since: 0,
            tried: 0,
        };
        // Another CPU may have made it meanwhile, which is as good.
        let _made = FLOWS.insert(&cgroup, &new, u64::from(BPF_NOEXIST));
    }
    0
}

/// Whose events they are.
#[inline(always)]
fn flow(cgroup: u64) -> Option<&'static mut Flow> {
    begin_flow(cgroup);
    // SAFETY: the map's value is a valid Flow.
    FLOWS.get_ptr_mut(&cgroup).map(|flow| unsafe { &mut *flow })
}

/// Whether the container may send one more. Two CPUs may begin a window at a time,
/// and then a few more are sent.
#[inline(always)]
fn admits(flow: &mut Flow) -> bool {
    let now = now();
    // Another CPU may have begun it later.
    if now.saturating_sub(flow.since) >= EVENTS_WINDOW {
        flow.since = now;
        flow.tried = 0;
    }
    increase(&mut flow.tried);
    flow.tried <= EVENTS_BURST
}

/// Sends an event, or counts its loss.
#[inline(always)]
pub fn event(told: &Report) {
    let mut flow = flow(told.cgroup);
    // Without room for its flow nobody is held back, and the sum is counted.
    let admitted = match &mut flow {
        Some(flow) => admits(flow),
        None => true,
    };
    if admitted && let Some(mut entry) = EVENTS.reserve(0) {
        // SAFETY: the entry is ours until it is submitted and has room for an Event.
        unsafe { fill(entry.as_mut_ptr(), told) };
        entry.submit(0);
        if let Some(flow) = flow {
            increase(&mut flow.sent);
        }
        return;
    }
    // Whoever sees the sum looks for it here.
    if let Some(flow) = flow {
        increase(&mut flow.lost);
    }
    count(|stats| &mut stats.events_lost);
}

/// Writes every field, and of the strings what their lengths say: a whole Event
/// would not fit on the stack.
///
/// # Safety
///
/// `to` has room for an event.
#[inline(always)]
unsafe fn fill(to: *mut Event, told: &Report) {
    let Report { name, asked, .. } = told;
    // SAFETY: as the caller says; the helpers get the size of what they fill.
    unsafe {
        (*to).time = now();
        (*to).cgroup = told.cgroup;
        (*to).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*to).container_pid = container_pid() as u32;
        (*to).session = session() as u32;
        (*to).uid = bpf_get_current_uid_gid() as u32;
        (*to).policy = told.policy;
        (*to).rule = told.rule;
        (*to).mechanism = told.mechanism;
        (*to).refused = u32::from(told.refused);
        (*to).source = name.source as u32;
        (*to).outside = u32::from(told.outside);
        let comm = &raw mut (*to).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&*comm) as u32);
        let parent = parent();
        (*to).parent = field::id(parent);
        field::comm(&mut (*to).parent_comm, parent);
        (*to).name_len = string(&mut (*to).name, name.address, name.user);
        (*to).requested_len = string(&mut (*to).requested, asked.requested, asked.user);
        (*to).cut = if (*to).requested_len < NAME_MAX as u32 {
            0
        } else {
            goes_on(asked.requested, if asked.user { USER } else { 0 }) as u32
        };
        (*to).resolved_len = string(&mut (*to).resolved, asked.resolved, false);
        (*to).argument_len = string(&mut (*to).argument, told.argument, true);
    }
}

/// Reads a string for a report; the length, 0 where it can't be read.
#[inline(always)]
fn string<const N: usize>(to: &mut [u8; N], address: u64, user: bool) -> u32 {
    let len = match (address, user) {
        (0, _) => None,
        (address, false) => field::kernel_string(to, address),
        (address, true) => field::user_string(to, address),
    };
    match len {
        Some(len) => len,
        None => 0,
    }
}
