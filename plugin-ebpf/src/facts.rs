//! Looks the names of a program up in its container's policy.
//!
//! One key on the stack serves all lookups, one after the other: the programs
//! are preemptible, so a buffer for each CPU would be shared.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use plugin_common::{
    Container, Findings, KIND_NAME, KIND_PATH, KIND_REQUESTED, NAME_CAPACITY, NAME_MAX,
    PATH_COMPONENTS_MAX, PATH_MAX, RuleKey, RuleValue,
};

use crate::{
    field::{self, Bprm, File, Step},
    maps::RULES,
    report,
};

/// What exec was asked for, and where that stands.
pub enum Asked {
    /// Behind the kernel's own lookup, at one level of interpreters: its name
    /// and its file.
    Level(Bprm),
    /// At the end, when only the last level is left: the name given to exec,
    /// the name of the last interpreter, and its file.
    Image(Bprm),
    /// At the syscall: the address of a name in user memory.
    User(u64),
}

/// Pieces of [`NAME_MAX`] bytes that the longest string given to exec has.
const PIECES: u64 = (PATH_MAX as u64).div_ceil(NAME_MAX as u64);

/// Steps from a file to the root: its components, and the mount points between.
const STEPS: usize = PATH_COMPONENTS_MAX + 8;

impl Asked {
    /// Asks the policy of `container`; ends with the first finding. `key.name`
    /// is then the name that matched (of a path, the part looked up last).
    ///
    /// What can't be read counts as not found, which fails open, and is
    /// counted at once: a flag carried along would double the verifier's work
    /// with each step. The step with the longest loop comes last.
    #[inline(always)]
    pub fn facts(&self, container: &Container, key: &mut RuleKey) -> Findings {
        let mut findings = Findings {
            requested: 0,
            resolved: 0,
        };
        key.policy = container.policy;
        if container.kinds & (1 << KIND_NAME) != 0 {
            findings.requested = self.each_name(key, Self::requested_name);
            if findings.requested != 0 {
                return findings;
            }
            findings.resolved = or_count(self.resolved(key, resolved_name));
            if findings.resolved != 0 {
                return findings;
            }
        }
        if container.kinds & (1 << KIND_PATH) != 0 {
            findings.requested = self.each_name(key, Self::requested_path);
            if findings.requested != 0 {
                return findings;
            }
            findings.resolved = or_count(self.resolved(key, resolved_path));
        }
        findings
    }

    /// Asks about the file, where the hook has one.
    #[inline(always)]
    fn resolved(
        &self,
        key: &mut RuleKey,
        ask: impl FnOnce(&File, &mut RuleKey) -> Option<u32>,
    ) -> Option<u32> {
        match self {
            Self::Level(bprm) | Self::Image(bprm) => ask(&bprm.file(), key),
            Self::User(_) => Some(0),
        }
    }

    /// Asks about each name that was requested; the first rule, or 0.
    #[inline(always)]
    fn each_name(
        &self,
        key: &mut RuleKey,
        ask: impl Fn(&Self, &mut RuleKey, u64) -> Option<u32>,
    ) -> u32 {
        match self {
            Self::Level(bprm) => or_count(ask(self, key, bprm.interp())),
            Self::Image(bprm) => {
                let rule = or_count(ask(self, key, bprm.filename()));
                if rule != 0 || bprm.interp() == bprm.filename() {
                    return rule;
                }
                or_count(ask(self, key, bprm.interp()))
            }
            Self::User(address) => or_count(ask(self, key, *address)),
        }
    }

    #[inline(always)]
    fn read(&self, to: &mut [u8; NAME_CAPACITY], address: u64) -> Option<u32> {
        match self {
            Self::Level(_) | Self::Image(_) => field::kernel_string(to, address),
            Self::User(_) => field::user_string(to, address),
        }
    }

    /// The rule for the last component of a name that was requested.
    ///
    /// A component that a rule can name lies within the last [`NAME_MAX`]
    /// bytes, so only these are searched for a slash.
    #[inline(always)]
    fn requested_name(&self, key: &mut RuleKey, start: u64) -> Option<u32> {
        let mut tail = start;
        let mut len = self.read(&mut key.name, tail)?;
        let mut pieces = 1;
        while len == NAME_MAX as u32 && pieces < PIECES {
            // There is more: ends with a piece that is shorter than a full one.
            len = self.read(&mut key.name, tail + NAME_MAX as u64)?;
            tail += u64::from(len);
            pieces += 1;
        }
        if pieces > 1 {
            self.read(&mut key.name, tail)?;
        }
        let mut last = tail;
        let mut index = 0;
        while index < NAME_MAX {
            let byte = key.name[index];
            if byte == 0 {
                break;
            }
            if byte == b'/' {
                last = tail + index as u64 + 1;
            }
            index += 1;
        }
        clear(key);
        let len = self.read(&mut key.name, last)?;
        Some(in_force(&edge(key, KIND_NAME, 0, len)))
    }

    /// The rule for the whole of a name that was requested.
    #[inline(always)]
    fn requested_path(&self, key: &mut RuleKey, start: u64) -> Option<u32> {
        let mut piece = start;
        let mut node = 0;
        let mut pieces = 0;
        while pieces < PIECES {
            clear(key);
            let len = self.read(&mut key.name, piece)?;
            let found = edge(key, KIND_REQUESTED, node, len);
            if len < NAME_MAX as u32 {
                return Some(in_force(&found));
            }
            if found.next == 0 {
                return Some(0);
            }
            node = found.next;
            piece += NAME_MAX as u64;
            pieces += 1;
        }
        Some(0)
    }
}

/// A rule or 0; what could not be read is counted.
#[inline(always)]
fn or_count(rule: Option<u32>) -> u32 {
    match rule {
        Some(rule) => rule,
        None => {
            report::count(|stats| &mut stats.unreadable);
            0
        }
    }
}

/// The rule for the last component of the file's path.
#[inline(always)]
fn resolved_name(file: &File, key: &mut RuleKey) -> Option<u32> {
    let (name, len) = file.name();
    clear(key);
    let taken = field::kernel_string(&mut key.name, name)?;
    if taken != len {
        // Changed under the reader, or longer than any rule.
        return None;
    }
    Some(in_force(&edge(key, KIND_NAME, 0, taken)))
}

/// The rule for the file's path, read from the file to the root of the mount
/// namespace: a chroot changes nothing. Ends with the first component that no
/// rule has.
#[inline(always)]
fn resolved_path(file: &File, key: &mut RuleKey) -> Option<u32> {
    let mut place = file.place();
    // The edge taken last. 0 is where an automaton starts, and what an edge that
    // leads nowhere says; only the former goes on.
    let mut found = RuleValue::NONE;
    let mut goes_on = true;
    let mut steps = 0;
    while steps < STEPS {
        steps += 1;
        match place.step()? {
            Step::Root => return Some(in_force(&found)),
            Step::Mount(point) => place = point,
            Step::Up(above) => {
                if !goes_on {
                    return Some(0);
                }
                clear(key);
                let len = field::kernel_string(&mut key.name, place.name()?)?;
                found = edge(key, KIND_PATH, found.next, len);
                goes_on = found.next != 0;
                if !goes_on && found.rule == 0 {
                    return Some(0);
                }
                place = above;
            }
        }
    }
    None
}

/// The rule that is complete with an edge, if it holds now; else 0. Asks for the
/// time only where the rule has one.
#[inline(always)]
fn in_force(value: &RuleValue) -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    if value.holds_always() || value.holds(unsafe { bpf_ktime_get_boot_ns() }) {
        value.rule
    } else {
        0
    }
}

/// Follows one edge; zeros where there is none.
#[inline(always)]
fn edge(key: &mut RuleKey, kind: u32, node: u32, len: u32) -> RuleValue {
    key.kind = kind;
    key.node = node;
    key.len = len;
    // SAFETY: the entry may be replaced or deleted meanwhile; it is copied, and
    // each value of it is a valid RuleValue.
    match unsafe { RULES.get(&*key) } {
        Some(value) => *value,
        None => RuleValue::NONE,
    }
}

/// Makes a key of zeros in place and by words: an ordinary value would become a
/// copy on the small stack, or a call of a function that goes byte by byte.
#[inline(always)]
pub fn empty_key(slot: &mut MaybeUninit<RuleKey>) -> &mut RuleKey {
    let words: *mut u64 = slot.as_mut_ptr().cast();
    for index in 0..size_of::<RuleKey>() / size_of::<u64>() {
        // SAFETY: within the key, aligned as it is.
        unsafe { words.add(index).write_volatile(0) };
    }
    // SAFETY: every byte was written; it is made of integers.
    unsafe { slot.assume_init_mut() }
}

/// The key compares whole, so nothing may be left of the name before.
#[inline(always)]
fn clear(key: &mut RuleKey) {
    let words: *mut u64 = key.name.as_mut_ptr().cast();
    for index in 0..NAME_CAPACITY / size_of::<u64>() {
        // SAFETY: within the array, aligned as the key is. Volatile, so that it
        // does not become a call of a function that goes byte by byte.
        unsafe { words.add(index).write_volatile(0) };
    }
}
