//! The contract between the eBPF programs and user space, written once: map
//! keys and values, limits, counters, events and the decision itself.
//!
//! Every type is `repr(C)` without implicit padding, since the kernel compares
//! and copies the bytes. Integers are in native byte order. With the feature
//! `user` the types implement [`aya::Pod`].
//!
//! A change of a layout or of a meaning raises [`ABI`].
#![cfg_attr(not(test), no_std)]

mod decide;
mod event;
mod rule;
mod stats;
mod tag;

pub use decide::{Findings, Source, Verdict, decide};
pub use event::{
    ARGUMENT_CAPACITY, COMM_CAPACITY, DENIAL_WINDOW, EVENTS_BURST, EVENTS_WINDOW, Event,
    MECHANISM_FMOD_RET, MECHANISM_KPROBE, MECHANISM_LSM, MECHANISM_SIGNAL,
};
pub use rule::{
    GLOB_MAX, GlobKey, KIND_ALLOW_DIR, KIND_ALLOW_NAME, KIND_ALLOW_PATH, KIND_ALLOW_PREFIX,
    KIND_ALLOW_SUFFIX, KIND_DIR, KIND_NAME, KIND_PATH, KIND_PREFIX, KIND_REQUESTED, KIND_SUFFIX,
    KINDS_ALLOW, NAME_CAPACITY, NAME_SHORT, RULE_DRIFT, RULE_FIRST, RULE_MOVED, RULE_UNLISTED,
    RULE_UNREADABLE, RuleKey, RuleValue, ShortKey,
};
pub use stats::{Flow, Hit, HitKey, Stats};
pub use tag::{Tag, Told};

/// Version of everything in this crate; stands in [`Config::abi`].
pub const ABI: u32 = 6;

/// Longest file name, in bytes without the NUL (`NAME_MAX` of the kernel).
pub const NAME_MAX: usize = 255;

/// Longest path, in bytes without the NUL (`PATH_MAX` of the kernel less one).
pub const PATH_MAX: usize = 4095;

/// Most directories a path rule may have above its last component. Bounds the
/// walk from the file to the root, and with it the work that the verifier has.
pub const PATH_COMPONENTS_MAX: usize = 32;

/// Deepest cgroup that can be bound; the root is level 0. Bounds the loop that
/// looks a process's ancestors up, see [`Config::levels`].
pub const LEVEL_MAX: u32 = 63;

/// Containers that the map holds unless another capacity is asked for at load.
pub const CONTAINERS_DEFAULT: u32 = 16_384;

/// Entries of the map `rules` unless another capacity is asked for at load.
pub const RULES_DEFAULT: u32 = 65_536;

/// Entries of the map `rules_long` unless another capacity is asked for at load: a
/// quarter of the rules.
pub const LONG_DEFAULT: u32 = RULES_DEFAULT / 4;

/// Entries of the map `globs` unless another capacity is asked for at load: a
/// quarter of the rules.
pub const GLOBS_DEFAULT: u32 = RULES_DEFAULT / 4;

/// Pairs of a container and a rule that are counted apart.
pub const HITS_DEFAULT: u32 = 16_384;

/// Threads of which it is known what was told of them last.
pub const TOLD_DEFAULT: u32 = 1024;

/// Bytes of the ring buffer for events: a power of two and of pages.
pub const EVENTS_BYTES: u32 = 512 * 1024;

/// Value of the map `containers`; the key is the cgroup id (`u64`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Key into `policies` and first part of each [`RuleKey`].
    pub policy: u32,
    /// Which kinds of rules the policy has: bit `1 << KIND_…`. A kind that is
    /// not used costs nothing.
    pub kinds: u32,
    /// [`MODE_ENFORCE`] or [`MODE_AUDIT`].
    pub mode: u32,
    /// [`DRIFT_OFF`], [`DRIFT_AUDIT`] or [`DRIFT_DENY`].
    pub drift: u32,
    /// When it was bound: nanoseconds of `CLOCK_BOOTTIME`.
    pub bound_at: u64,
    /// Device of the container's root, as the kernel writes it inside
    /// (`super_block.s_dev`, include/linux/kdev_t.h: minor in the low 20 bits);
    /// 0 where drift does not ask for it.
    pub root_dev: u32,
    /// Inode number of the container's own mount namespace; 0 where neither drift
    /// nor an allow-list asks for it.
    pub mnt_ns: u32,
    /// Inode number of its runtime's mount namespace; 0 where it is not known,
    /// and then nothing of the runtime is exempted.
    pub runtime_mnt_ns: u32,
    /// Inode number of its runtime's pid namespace; 0 as above.
    pub runtime_pid_ns: u32,
}

/// [`Container::drift`]: not looked at.
pub const DRIFT_OFF: u32 = 0;
/// [`Container::drift`]: what did not come with the image runs and is reported.
pub const DRIFT_AUDIT: u32 = 1;
/// [`Container::drift`]: it is refused.
pub const DRIFT_DENY: u32 = 2;

/// [`Container::mode`]: a denied program is refused.
pub const MODE_ENFORCE: u32 = 0;
/// [`Container::mode`]: a denied program runs and is reported.
pub const MODE_AUDIT: u32 = 1;

/// Value of the map `policies`; the key is the policy id (`u32`, never 0).
///
/// A policy is found by its content: the same rules give the same id, whoever
/// binds them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// First half of the SHA-256 of the canonical rules.
    pub digest: [u8; 16],
    /// Bit `1 << KIND_…` for each kind of rule it has.
    pub kinds: u32,
    /// Entries that it has in the map `rules`.
    pub entries: u32,
    /// [`POLICY_BUILDING`] until all its rules are in the map.
    pub state: u32,
    /// Zero.
    pub reserved: u32,
}

/// [`Policy::state`]: its rules are being written; nobody may bind it.
pub const POLICY_BUILDING: u32 = 0;
/// [`Policy::state`]: complete.
pub const POLICY_READY: u32 = 1;

/// The one value of the array `config`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// [`ABI`] of whoever made the pins.
    pub abi: u32,
    /// The mechanism that refuses: one of the `MECHANISM_…` constants.
    pub mechanism: u32,
    /// Bit `1 << level` for each cgroup level on which a container is bound.
    pub levels: u64,
    /// The highest bit of `levels`: where the search for ancestors begins.
    pub deepest: u32,
    /// [`CONFIG_TRANSIENT`], [`CONFIG_DRIFT`] or zero.
    pub flags: u32,
}

/// [`Config::flags`]: pinned by `execblock run` for itself; whoever unbinds the
/// last container may unload.
pub const CONFIG_TRANSIENT: u32 = 1;
/// [`Config::flags`]: the kernel's overlay was seen to be laid out as the programs
/// read it, so that drift may be asked for.
pub const CONFIG_DRIFT: u32 = 2;

/// The one value of the array `build`: which programs are pinned. They don't read
/// it; it says whether an upgrade has something to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// SHA-256 of the object that was loaded.
    pub object: [u8; 32],
    /// Version of the crate that loaded it: major, minor, patch.
    pub version: [u32; 3],
    /// Zero.
    pub reserved: u32,
}

/// A cgroup id that is bound must be greater: 0 is none, 1 is the root.
pub const CGROUP_ROOT: u64 = 1;

#[cfg(feature = "user")]
mod pod {
    use super::{
        Build, Config, Container, Event, Flow, GlobKey, Hit, HitKey, Policy, RuleKey, RuleValue,
        ShortKey, Stats, Tag,
    };

    // SAFETY: each is repr(C), made of integers and arrays of integers alone,
    // and has no padding (checked by the sizes in `layout`).
    unsafe impl aya::Pod for Container {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Policy {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Build {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tag {}
    // SAFETY: as above.
    unsafe impl aya::Pod for RuleKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ShortKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for RuleValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for GlobKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Stats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for HitKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Hit {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Event {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow {}
}

/// Sizes are part of the ABI: padding would put bytes into a key that nobody set.
const _LAYOUT: () = {
    assert!(size_of::<Container>() == 4 * 4 + 8 + 4 * 4);
    assert!(size_of::<Policy>() == 16 + 4 * 4);
    assert!(size_of::<Config>() == 2 * 4 + 8 + 2 * 4);
    assert!(size_of::<Build>() == 32 + 4 * 4);
    assert!(size_of::<RuleKey>() == 4 * 4 + NAME_CAPACITY);
    assert!(size_of::<ShortKey>() == 4 * 4 + NAME_SHORT);
    assert!(size_of::<GlobKey>() == 3 * 4 + GLOB_MAX);
    assert!(size_of::<RuleValue>() == 2 * 4 + 2 * 8);
    assert!(size_of::<HitKey>() == 8 + 2 * 4);
    assert!(size_of::<Hit>() == 2 * 8);
    let strings = 2 * COMM_CAPACITY + 3 * NAME_CAPACITY + ARGUMENT_CAPACITY;
    assert!(size_of::<Event>() == 2 * 8 + 16 * 4 + strings);
    assert!(size_of::<Flow>() == 4 * 8);
    assert!(size_of::<Tag>() == 2 * 8);
    assert!(size_of::<Told>() == 8 + 6 * 4 + 8 + 2 * 4);
};
