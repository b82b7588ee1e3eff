//! What a process carries with it, wherever it moves.

/// Value of the task storage `tags`: which bound cgroup a process executed a
/// program in, or one that it descends from did. It holds while that cgroup is
/// bound, also outside of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The bound cgroup.
    pub cgroup: u64,
    /// 1 once it was reported that the process left it.
    pub reported: u64,
}

/// Value of the map `told`; the key is a thread's id (`u64`: process and thread, as
/// the kernel's helper has them): what was told of it last, so that a denial is told
/// once. The least recently used go when it is full, and then one is told again.
///
/// Two rules, because a script and its interpreter may each have one, and two
/// names, because a shell goes through its PATH and begins anew.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// When: nanoseconds of `CLOCK_BOOTTIME`.
    pub at: u64,
    /// The rule; 0 where none was.
    pub rule: u32,
    /// Hash of the name that was asked for when it was told.
    pub first: u32,
    /// Hash of the name that was asked for last.
    pub last: u32,
    /// Rules that were told of the exec under way, in audit mode, where more than
    /// one hook sees it.
    pub audited: [u32; 2],
    /// Hash of what is behind the last slash of the first.
    pub last_part: u32,
    /// When an image was last told of, as `at`.
    pub image_at: u64,
    /// Which exec of the process had put it in place: the lower half of
    /// `task_struct.self_exec_id`. Where an image has one look, 0.
    pub image: u32,
    /// Zero.
    pub reserved: u32,
}
