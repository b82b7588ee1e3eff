//! What a process carries with it, wherever it moves.

/// Value of the task storage `tags`: which bound cgroup a process executed a
/// program in, or one that it descends from did. It holds while that cgroup is
/// bound, also outside of it.
///
/// Behind it, what was told of the process last, so that a denial is told once.
/// Two rules, because a script and its interpreter may each have one, and two
/// names, because a shell goes through its PATH and begins anew.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The bound cgroup.
    pub cgroup: u64,
    /// 1 once it was reported that the process left it.
    pub reported: u64,
    /// When something was told: nanoseconds of `CLOCK_BOOTTIME`.
    pub told_at: u64,
    /// The rule that was told last; 0 where none was.
    pub rule: u32,
    /// Hash of the name that was asked for when it was told.
    pub first: u32,
    /// Hash of the name that was asked for last.
    pub last: u32,
    /// Rules that were told of the exec under way, in audit mode, where more than
    /// one hook sees it.
    pub audited: [u32; 2],
    /// Zero.
    pub reserved: u32,
}
