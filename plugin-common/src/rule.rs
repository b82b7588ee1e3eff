//! How rules stand in the maps `rules` and `rules_long`: as the edges of small
//! automata, so that names and paths of any allowed length compare whole, by length
//! and bytes, with a key of fixed size. A key is hashed whole, so most edges have a
//! short one: [`NAME_SHORT`] says which.
//!
//! A name is one edge. A path is read by components from the last one to the
//! root, because that is how the kernel's tree is walked: `/usr/bin/id` is the
//! edges `id`, `bin`, `usr`. The string given to exec is compared whole, in
//! pieces of [`NAME_MAX`](crate::NAME_MAX) bytes from its start. A directory is
//! read from the root down: `/opt/tools/` is the edges `opt`, `tools`.
//!
//! Names with a `*` at one end stand in a map of their own, `globs`, which finds
//! the longest of them: see [`GlobKey`].
//!
//! Rules of allow-lists have kinds of their own, and match the resolved file
//! alone.

use crate::NAME_MAX;

/// Bytes of [`RuleKey::name`]: the longest name and the NUL that the kernel's
/// string reads add.
pub const NAME_CAPACITY: usize = NAME_MAX + 1;

/// Longest name of an edge in the map `rules`; longer ones are in `rules_long`.
pub const NAME_SHORT: usize = 32;

/// Denied: last component of the requested name, name of the resolved file,
/// or applet.
pub const KIND_NAME: u32 = 0;
/// Denied: a component of the resolved file's path, the last first.
pub const KIND_PATH: u32 = 1;
/// Denied: a piece of the requested name as it was given to exec.
pub const KIND_REQUESTED: u32 = 2;
/// Denied: a component of a directory above the resolved file, the first first.
/// The directory `/` is the empty name at node 0.
pub const KIND_DIR: u32 = 3;
/// Denied, in `globs`: the beginning of what [`KIND_NAME`] compares.
pub const KIND_PREFIX: u32 = 4;
/// Denied, in `globs`: the end of it, last byte first.
pub const KIND_SUFFIX: u32 = 5;
/// Allowed: as [`KIND_NAME`], of the resolved file alone.
pub const KIND_ALLOW_NAME: u32 = 6;
/// Allowed: as [`KIND_PATH`].
pub const KIND_ALLOW_PATH: u32 = 7;
/// Allowed: as [`KIND_DIR`].
pub const KIND_ALLOW_DIR: u32 = 8;
/// Allowed, in `globs`: as [`KIND_PREFIX`], of the resolved file alone.
pub const KIND_ALLOW_PREFIX: u32 = 9;
/// Allowed, in `globs`: as [`KIND_SUFFIX`], of the resolved file alone.
pub const KIND_ALLOW_SUFFIX: u32 = 10;

/// Bits of the kinds that make an allow-list: a policy with one of them refuses
/// what none of them matches.
pub const KINDS_ALLOW: u32 = 1 << KIND_ALLOW_NAME
    | 1 << KIND_ALLOW_PATH
    | 1 << KIND_ALLOW_DIR
    | 1 << KIND_ALLOW_PREFIX
    | 1 << KIND_ALLOW_SUFFIX;

/// Reserved rule id: the program is in no allow-list of its container.
pub const RULE_UNLISTED: u32 = 1;
/// Reserved rule id: the file did not come with the container's image.
pub const RULE_DRIFT: u32 = 2;
/// Reserved rule id: it could not be told whether a rule matches, and whoever
/// made it so may be the one to be stopped.
pub const RULE_UNREADABLE: u32 = 3;
/// Reserved rule id: a process left the cgroup that it is bound by. It is
/// reported once, and stays under its rules.
pub const RULE_MOVED: u32 = 4;
/// The least id that is made from a rule's text.
pub const RULE_FIRST: u32 = 16;

/// Key of the map `rules`: a [`RuleKey`] whose name has at most [`NAME_SHORT`] bytes.
/// Aligned so that the kernel side can clear it by words.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShortKey {
    /// See [`RuleKey::node`].
    pub node: u32,
    /// Bytes used of `name`.
    pub len: u32,
    /// The policy that has the rule.
    pub policy: u32,
    /// One of the `KIND_…` constants.
    pub kind: u32,
    /// The name or piece, zero behind `len`.
    pub name: [u8; NAME_SHORT],
}

/// Key of the map `rules_long`, and of an edge in user space. Aligned so that the
/// kernel side can clear it by words.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RuleKey {
    /// Where in the automaton the edge starts; 0 is the start.
    pub node: u32,
    /// Bytes used of `name`.
    pub len: u32,
    /// The policy that has the rule.
    pub policy: u32,
    /// One of the `KIND_…` constants.
    pub kind: u32,
    /// The name or piece, zero behind `len`.
    pub name: [u8; NAME_CAPACITY],
}

/// Bytes of [`GlobKey::name`]: what the kernel's tries hold beside the words
/// before it (`LPM_DATA_SIZE_MAX` of kernel/bpf/lpm_trie.c is 256).
pub const GLOB_MAX: usize = 248;

/// Key of the map `globs`, a trie that finds the longest prefix.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobKey {
    /// Bits that count: 64 for policy and kind, and 8 for each byte of the name.
    pub bits: u32,
    /// The policy that has the rule.
    pub policy: u32,
    /// [`KIND_PREFIX`], [`KIND_SUFFIX`] or their counterparts of allow-lists.
    pub kind: u32,
    /// The text before the `*`; or the text behind it, last byte first. Zero
    /// behind it.
    pub name: [u8; GLOB_MAX],
}

impl GlobKey {
    /// Bits of policy and kind.
    pub const BITS_BEFORE_NAME: u32 = 64;

    /// A key for `text` (in reverse for a suffix), or `None` where it is longer
    /// than [`GLOB_MAX`] bytes.
    #[must_use]
    pub fn new(policy: u32, kind: u32, text: &[u8]) -> Option<Self> {
        let mut name = [0; GLOB_MAX];
        name.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            bits: Self::BITS_BEFORE_NAME + 8 * u32::try_from(text.len()).ok()?,
            policy,
            kind,
            name,
        })
    }
}

/// Value of the maps `rules` and `globs`. Times are nanoseconds of `CLOCK_BOOTTIME`, so that
/// a rule that ends does so by itself, also when the machine slept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleValue {
    /// Id of the rule that is complete with this edge, made from its text, the
    /// same in every policy; 0 where none is.
    pub rule: u32,
    /// The node that the edge leads to; 0 where it leads nowhere.
    pub next: u32,
    /// When the rule begins to hold; 0 where it always has.
    pub from: u64,
    /// When the rule ends; 0 where it does not.
    pub until: u64,
}

impl RuleValue {
    /// Where there is no edge.
    pub const NONE: Self = Self {
        rule: 0,
        next: 0,
        from: 0,
        until: 0,
    };

    /// Whether the rule holds whatever the time, which spares asking for it.
    #[must_use]
    pub const fn holds_always(&self) -> bool {
        self.from | self.until == 0
    }

    /// Whether the rule holds at `now`. It ends with the instant `until`.
    #[must_use]
    pub const fn holds(&self, now: u64) -> bool {
        self.from <= now && (self.until == 0 || now < self.until)
    }
}

impl RuleKey {
    /// A key for `name`, or `None` where it is longer than [`NAME_MAX`] bytes.
    #[must_use]
    pub fn new(policy: u32, node: u32, kind: u32, name: &[u8]) -> Option<Self> {
        if name.len() > NAME_MAX {
            return None;
        }
        let mut key = Self {
            node,
            len: u32::try_from(name.len()).ok()?,
            policy,
            kind,
            name: [0; NAME_CAPACITY],
        };
        key.name.get_mut(..name.len())?.copy_from_slice(name);
        Some(key)
    }
}

impl RuleKey {
    /// The key of the map `rules`; `None` where the name is too long for it.
    #[must_use]
    pub fn short(&self) -> Option<ShortKey> {
        let len = usize::try_from(self.len).ok()?;
        if len > NAME_SHORT {
            return None;
        }
        let mut name = [0; NAME_SHORT];
        name.get_mut(..len)?.copy_from_slice(self.name.get(..len)?);
        Some(ShortKey {
            node: self.node,
            len: self.len,
            policy: self.policy,
            kind: self.kind,
            name,
        })
    }
}

impl From<ShortKey> for RuleKey {
    fn from(short: ShortKey) -> Self {
        let mut name = [0; NAME_CAPACITY];
        let (head, _) = name.split_at_mut(NAME_SHORT);
        head.copy_from_slice(&short.name);
        Self {
            node: short.node,
            len: short.len,
            policy: short.policy,
            kind: short.kind,
            name,
        }
    }
}

impl core::fmt::Debug for ShortKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        RuleKey::from(*self).fmt(f)
    }
}

impl core::fmt::Debug for RuleKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let used = self.name.get(..len).unwrap_or(&self.name);
        f.debug_struct("RuleKey")
            .field("policy", &self.policy)
            .field("node", &self.node)
            .field("kind", &self.kind)
            .field("name", &core::str::from_utf8(used).unwrap_or("(not UTF-8)"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_zero_behind_its_name() {
        let key = RuleKey::new(7, 3, KIND_PATH, b"whoami").unwrap();
        assert_eq!(
            (key.policy, key.node, key.kind, key.len),
            (7, 3, KIND_PATH, 6)
        );
        assert_eq!(&key.name[..6], b"whoami");
        assert!(key.name[6..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_name_that_is_short_enough_has_a_short_key() {
        let of = |len| RuleKey::new(7, 3, KIND_PATH, &[b'a'; NAME_MAX][..len]).unwrap();
        for len in [0, 1, NAME_SHORT] {
            assert!(RuleKey::from(of(len).short().unwrap()) == of(len), "{len}");
        }
        assert!(of(NAME_SHORT + 1).short().is_none());
    }

    #[test]
    fn a_rule_holds_from_its_beginning_to_its_end() {
        let value = |from, until| RuleValue {
            rule: 1,
            next: 0,
            from,
            until,
        };
        assert!(value(0, 0).holds_always() && value(0, 0).holds(0) && value(0, 0).holds(u64::MAX));
        assert!(value(0, 9).holds(8) && !value(0, 9).holds(9) && !value(0, 9).holds_always());
        assert!(!value(5, 0).holds(4) && value(5, 0).holds(5) && !value(5, 0).holds_always());
        assert!(!value(5, 9).holds(4) && value(5, 9).holds(7) && !value(5, 9).holds(9));
    }

    #[test]
    fn the_longest_name_fits_and_the_next_does_not() {
        assert!(RuleKey::new(1, 0, KIND_NAME, &[b'a'; NAME_MAX]).is_some());
        assert!(RuleKey::new(1, 0, KIND_NAME, &[b'a'; NAME_MAX + 1]).is_none());
    }
}
