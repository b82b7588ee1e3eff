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
