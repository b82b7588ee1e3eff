//! The maps. Their names are the names of the pins, their types come from
//! `plugin-common` and reach the kernel as BTF, so that bpftool prints fields.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    helpers::generated::{bpf_map_lookup_elem, bpf_task_storage_get},
    macros::btf_map,
};
use plugin_common::{
    Build, CONTAINERS_DEFAULT, Config, Container, EVENTS_BYTES, Event, Flow, GLOBS_DEFAULT,
    GlobKey, HITS_DEFAULT, Hit, HitKey, LONG_DEFAULT, Policy, RULES_DEFAULT, RuleKey, RuleValue,
    ShortKey, Stats, TOLD_DEFAULT, Tag, Told,
};

use crate::field::Task;

/// Entries take memory when they are made, not when the map is.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// Cgroup id → what holds for it. Never an LRU map: eviction would be a bypass.
#[btf_map(name = "containers")]
pub static CONTAINERS: HashMap<u64, Container, { CONTAINERS_DEFAULT as usize }, ON_DEMAND> =
    HashMap::new();

/// Edges of the policies' automata with a short name.
#[btf_map(name = "rules")]
pub static RULES: HashMap<ShortKey, RuleValue, { RULES_DEFAULT as usize }, ON_DEMAND> =
    HashMap::new();

/// The others.
#[btf_map(name = "rules_long")]
pub static RULES_LONG: HashMap<RuleKey, RuleValue, { LONG_DEFAULT as usize }, ON_DEMAND> =
    HashMap::new();

/// Policy id → digest and state. The programs don't read it; it lives here so
/// that it is made, pinned and typed like the others.
#[btf_map(name = "policies")]
pub static POLICIES: HashMap<u32, Policy, { CONTAINERS_DEFAULT as usize }, ON_DEMAND> =
    HashMap::new();

/// One value: the levels in use, the ABI.
#[btf_map(name = "config")]
pub static CONFIG: Array<Config, 1> = Array::new();

/// One value: which programs these are. They don't read it, as with `policies`.
#[btf_map(name = "build")]
pub static BUILD: Array<Build, 1> = Array::new();

/// One value for each CPU.
#[btf_map(name = "stats")]
pub static STATS: PerCpuArray<Stats, 1> = PerCpuArray::new();

/// What each rule did in each container. Only the programs add entries, user
/// space removes those of containers that are gone.
#[btf_map(name = "hits")]
pub static HITS: HashMap<HitKey, Hit, { HITS_DEFAULT as usize }, ON_DEMAND> = HashMap::new();

/// Cgroup id → what became of its events. As `hits`.
#[btf_map(name = "flows")]
pub static FLOWS: HashMap<u64, Flow, { CONTAINERS_DEFAULT as usize }, ON_DEMAND> = HashMap::new();

/// What was told of a thread last. Only the programs use it.
#[btf_map(name = "told")]
pub static TOLD: LruHashMap<u64, Told, { TOLD_DEFAULT as usize }> = LruHashMap::new();

/// Refusals on their way to user space.
#[btf_map(name = "events")]
pub static EVENTS: RingBuf<Event, { EVENTS_BYTES as usize }> = RingBuf::new();

/// Names with a `*` at one end.
#[btf_map(name = "globs")]
pub static GLOBS: Globs<{ GLOBS_DEFAULT as usize }> = Globs::new();

/// What processes carry with them.
#[btf_map(name = "tags")]
pub static TAGS: Tags = Tags::new();

/// How the loader learns of a map: the lengths and types behind these pointers.
macro_rules! definition {
    ($(#[$doc:meta])* $name:ident $(<const $max:ident>)?, $kind:ident, $entries:expr, $key:ty, $value:ty) => {
        $(#[$doc])*
        #[repr(C)]
        pub struct $name $(<const $max: usize>)? {
            r#type: *const [i32; bpf_map_type::$kind as usize],
            key: *const $key,
            value: *const $value,
            max_entries: *const [i32; $entries],
            map_flags: *const [i32; ON_DEMAND],
        }

        // SAFETY: the pointers are never followed.
        unsafe impl $(<const $max: usize>)? Sync for $name $(<$max>)? {}

        impl $(<const $max: usize>)? $name $(<$max>)? {
            const fn new() -> Self {
                Self {
                    r#type: ptr::null(),
                    key: ptr::null(),
                    value: ptr::null(),
                    max_entries: ptr::null(),
                    map_flags: ptr::null(),
                }
            }

            #[inline(always)]
            fn as_ptr(&self) -> *mut c_void {
                ptr::from_ref(self).cast_mut().cast()
            }
        }
    };
}

definition!(
    /// A trie that finds the longest prefix. aya's own has its key in two parts.
    Globs<const MAX>, BPF_MAP_TYPE_LPM_TRIE, MAX, GlobKey, RuleValue
);

impl<const MAX: usize> Globs<MAX> {
    /// The entry with the longest text that the key's begins with.
    #[inline(always)]
    pub fn longest(&self, key: *const GlobKey) -> Option<&'static RuleValue> {
        // SAFETY: the key is as long as the map's keys, and the value that comes
        // back lives as long as the program runs.
        unsafe {
            bpf_map_lookup_elem(self.as_ptr(), key.cast())
                .cast::<RuleValue>()
                .as_ref()
        }
    }
}

definition!(
    /// Storage in tasks (LSM programs Linux 5.11, others 5.12); aya has none.
    Tags, BPF_MAP_TYPE_TASK_STORAGE, 0, i32, Tag
);

impl Tags {
    /// The tag of a task, if it has one.
    #[inline(always)]
    pub fn get(&self, task: &Task) -> Option<&mut Tag> {
        self.storage(task, 0)
    }

    /// The tag of a task, a new one of zeros if it had none. `None` where the
    /// kernel has no memory.
    #[inline(always)]
    pub fn get_or_insert(&self, task: &Task) -> Option<&mut Tag> {
        self.storage(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE))
    }

    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "a word each, read and written as a whole by whoever comes"
    )]
    fn storage(&self, task: &Task, flags: u64) -> Option<&mut Tag> {
        // SAFETY: the task is one that the verifier knows; the value that comes
        // back lives as long as the program runs.
        unsafe {
            bpf_task_storage_get(self.as_ptr(), task.as_ptr().cast(), ptr::null_mut(), flags)
                .cast::<Tag>()
                .as_mut()
        }
    }
}
