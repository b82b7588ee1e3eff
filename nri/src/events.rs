//! Which events a plugin is called for.

use std::{
    fmt,
    ops::{BitOr, BitOrAssign},
};

/// A set of events, which has at least one member.
///
/// An empty set can't be made, because on the wire it means *all* events. And
/// all members are known to every version of NRI, because a runtime refuses a
/// plugin that subscribes to an event which it doesn't know.
///
/// ```
/// use nri::Events;
///
/// let events = Events::START_CONTAINER | Events::REMOVE_CONTAINER;
/// assert_eq!(events.bits(), 0x420);
/// assert!(events.contains(Events::START_CONTAINER));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Events(u16);

const NAMES: [&str; 11] = [
    "RUN_POD_SANDBOX",
    "STOP_POD_SANDBOX",
    "REMOVE_POD_SANDBOX",
    "CREATE_CONTAINER",
    "POST_CREATE_CONTAINER",
    "START_CONTAINER",
    "POST_START_CONTAINER",
    "UPDATE_CONTAINER",
    "POST_UPDATE_CONTAINER",
    "STOP_CONTAINER",
    "REMOVE_CONTAINER",
];

impl Events {
    /// A pod was started (after its sandbox container started).
    pub const RUN_POD_SANDBOX: Self = Self(1);
    /// A pod was stopped.
    pub const STOP_POD_SANDBOX: Self = Self(1 << 1);
    /// A pod was removed.
    pub const REMOVE_POD_SANDBOX: Self = Self(1 << 2);
    /// A container is about to be created. It has no process and no cgroup yet.
    pub const CREATE_CONTAINER: Self = Self(1 << 3);
    /// A container was created.
    pub const POST_CREATE_CONTAINER: Self = Self(1 << 4);
    /// A container is about to be started. Its first process exists, in its
    /// cgroup, and has not run any of the container's code.
    pub const START_CONTAINER: Self = Self(1 << 5);
    /// A container was started.
    pub const POST_START_CONTAINER: Self = Self(1 << 6);
    /// A container's resources are about to be updated.
    pub const UPDATE_CONTAINER: Self = Self(1 << 7);
    /// A container's resources were updated.
    pub const POST_UPDATE_CONTAINER: Self = Self(1 << 8);
    /// A container was stopped, or has exited.
    pub const STOP_CONTAINER: Self = Self(1 << 9);
    /// A container was removed.
    pub const REMOVE_CONTAINER: Self = Self(1 << 10);
    /// All of the above.
    pub const ALL: Self = Self(0x7ff);

    /// The mask that goes over the wire.
    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0 as i32
    }

    /// The events of both sets; `|`, in a constant.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all events of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Events {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// The names, separated by ` | `.
impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 & (1 << bit) != 0);
        for (position, (_, name)) in names.enumerate() {
            let separator = if position == 0 { "" } else { " | " };
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}
