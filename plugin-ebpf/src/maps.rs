//! The maps. Their names are the names of the pins, their types come from
//! `plugin-common` and reach the kernel as BTF, so that bpftool prints fields.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use plugin_common::{
    CONTAINERS_DEFAULT, Config, Container, EVENTS_BYTES, Event, HITS_DEFAULT, Hit, HitKey, Policy,
    RULES_DEFAULT, RuleKey, RuleValue, Stats,
};

/// Entries take memory when they are made, not when the map is.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// Cgroup id → what holds for it. Never an LRU map: eviction would be a bypass.
#[btf_map(name = "containers")]
pub static CONTAINERS: HashMap<u64, Container, { CONTAINERS_DEFAULT as usize }, ON_DEMAND> =
    HashMap::new();

/// Edges of the policies' automata.
#[btf_map(name = "rules")]
pub static RULES: HashMap<RuleKey, RuleValue, { RULES_DEFAULT as usize }, ON_DEMAND> =
    HashMap::new();

/// Policy id → digest and state. The programs don't read it; it lives here so
/// that it is made, pinned and typed like the others.
#[btf_map(name = "policies")]
pub static POLICIES: HashMap<u32, Policy, { CONTAINERS_DEFAULT as usize }, ON_DEMAND> =
    HashMap::new();

/// One value: the levels in use, the ABI.
#[btf_map(name = "config")]
pub static CONFIG: Array<Config, 1> = Array::new();

/// One value for each CPU.
#[btf_map(name = "stats")]
pub static STATS: PerCpuArray<Stats, 1> = PerCpuArray::new();

/// What each rule did in each container. Only the programs add entries, user
/// space removes those of containers that are gone.
#[btf_map(name = "hits")]
pub static HITS: HashMap<HitKey, Hit, { HITS_DEFAULT as usize }, ON_DEMAND> = HashMap::new();

/// Refusals on their way to user space.
#[btf_map(name = "events")]
pub static EVENTS: RingBuf<Event, { EVENTS_BYTES as usize }> = RingBuf::new();
