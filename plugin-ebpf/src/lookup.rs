//! Looks one thing about a program up in a policy.
//!
//! Each question is a function of its own that the verifier goes through once,
//! whoever calls it: a `global` function of numbers alone (Linux 5.6). Each has
//! its own key on the stack, which is why the programs that call them may have
//! little there: 512 bytes are for both. No key is shared by a CPU: the programs
//! are preemptible.
//!
//! The answer is the rule's id, 0 for none, or [`UNREADABLE`].

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use plugin_common::{
    GLOB_MAX, GlobKey, KIND_ALLOW_NAME, KIND_ALLOW_PREFIX, KIND_ALLOW_SUFFIX, KIND_NAME,
    KIND_PREFIX, KIND_REQUESTED, KIND_SUFFIX, NAME_CAPACITY, NAME_MAX, PATH_COMPONENTS_MAX,
    PATH_MAX, RULE_UNREADABLE, RuleKey, RuleValue,
};

use crate::{
    field::{self, Place, Step},
    maps::{GLOBS, RULES},
};

/// The answer where memory could not be read.
pub const UNREADABLE: u64 = 1 << 32;

/// The answer of [`component_rule`] where a name could not be read.
const UNREADABLE_COMPONENT: u64 = u64::MAX;

/// [`name_rule`]: the address is in the process's memory.
pub const USER: u64 = 1;
/// [`name_rule`]: of a path, its last component; the address is [`tail`]'s.
pub const LAST: u64 = 2;
/// [`name_rule`]: asks the allow-list.
pub const ALLOW: u64 = 4;

/// Of [`name_rule`]: the length is not known before.
pub const ANY_LENGTH: u64 = u64::MAX;

/// Pieces of [`NAME_MAX`] bytes that the longest string given to exec has.
const PIECES: u32 = (PATH_MAX as u32).div_ceil(NAME_MAX as u32);

/// Steps from a file to the root for a path rule: its components, and the mount
/// points between.
const STEPS: usize = PATH_COMPONENTS_MAX + 8;

/// Steps from a file to the root for a rule of a directory, which may be far
/// above the file.
const DEEP_STEPS: u64 = 64;

/// The rule that names this: whole, by its beginning or by its end.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn name_rule(policy: u64, kinds: u64, address: u64, len: u64, how: u64) -> u64 {
    let mut slot = MaybeUninit::uninit();
    let key = empty_key(&mut slot);
    key.policy = policy as u32;
    let start = if how & LAST == 0 {
        address
    } else {
        match last_component(&mut key.name, address, how) {
            Some((start, _)) => start,
            None => return UNREADABLE,
        }
    };
    clear(key);
    let Some(taken) = read(&mut key.name, start, how) else {
        return UNREADABLE;
    };
    if len != ANY_LENGTH && u64::from(taken) != len {
        // Changed under the reader, or longer than any rule.
        return UNREADABLE;
    }
    let (exact, prefix, suffix) = if how & ALLOW == 0 {
        (KIND_NAME, KIND_PREFIX, KIND_SUFFIX)
    } else {
        (KIND_ALLOW_NAME, KIND_ALLOW_PREFIX, KIND_ALLOW_SUFFIX)
    };
    if kinds & (1 << exact) != 0 {
        let rule = or_none(edge(key, exact, 0, taken));
        if rule != 0 {
            return rule;
        }
    }
    if kinds & (1 << prefix) != 0 {
        let rule = or_none(glob(key, prefix, taken));
        if rule != 0 {
            return rule;
        }
    }
    if kinds & (1 << suffix) != 0 {
        if backwards(key, start, taken, how).is_none() {
            return UNREADABLE;
        }
        return or_none(glob(key, suffix, taken));
    }
    0
}

/// The rule for the whole of a path that was requested.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn requested_rule(policy: u64, address: u64, how: u64) -> u64 {
    let mut slot = MaybeUninit::uninit();
    let key = empty_key(&mut slot);
    key.policy = policy as u32;
    let mut piece = address;
    let mut node = 0;
    let mut pieces = 0;
    while pieces < PIECES {
        clear(key);
        let Some(len) = read(&mut key.name, piece, how) else {
            return UNREADABLE;
        };
        let Some(found) = edge(key, KIND_REQUESTED, node, len) else {
            return 0;
        };
        if len < NAME_MAX as u32 {
            return in_force(found);
        }
        node = found.next;
        if node == 0 {
            return 0;
        }
        piece += NAME_MAX as u64;
        pieces += 1;
    }
    0
}

/// The rule of `kind` for a file's path, read from the file to the root of the
/// mount namespace: a chroot changes nothing. Ends with the first component that
/// no rule has.
///
/// [`RULE_UNREADABLE`] where all that was read is a rule's and more is to come: no
/// rule is as long, so there are mounts on mounts, which whoever may mount can pile
/// up.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn path_rule(policy: u64, kind: u64, dentry: u64, vfsmount: u64) -> u64 {
    let mut place = Place { dentry, vfsmount };
    // 0 is where an automaton starts, and what an edge that leads nowhere says;
    // only the former goes on.
    let mut found = 0;
    let mut goes_on = true;
    let mut steps = 0;
    while steps < STEPS {
        steps += 1;
        match place.step() {
            None => return UNREADABLE,
            Some(Step::Root) => return rule(found),
            Some(Step::Mount(point)) => place = point,
            Some(Step::Up(above)) => {
                if !goes_on {
                    return 0;
                }
                found = component_rule(policy, kind, next(found), place.dentry);
                if found == UNREADABLE_COMPONENT {
                    return UNREADABLE;
                }
                if found == 0 {
                    return 0;
                }
                goes_on = next(found) != 0;
                place = above;
            }
        }
    }
    u64::from(RULE_UNREADABLE)
}

/// The rule of `kind` for a directory above a file, read from the root down.
///
/// [`RULE_UNREADABLE`] where the file lies too deep to tell: whoever may write
/// below a directory could go deeper than anybody looks.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn dir_rule(policy: u64, kind: u64, dentry: u64, vfsmount: u64) -> u64 {
    // The root itself is a component without a name.
    let root = rule(component_rule(policy, kind, 0, 0));
    if root != 0 {
        return root;
    }
    let depth = depth(dentry, vfsmount);
    if depth == UNREADABLE {
        return UNREADABLE;
    }
    if depth >= DEEP_STEPS {
        return u64::from(RULE_UNREADABLE);
    }
    let mut node = 0;
    let mut level = 0;
    // The last component is the file.
    while level < PATH_COMPONENTS_MAX as u64 && level + 1 < depth {
        let above = ancestor(dentry, vfsmount, depth - 1 - level);
        if above == 0 {
            return UNREADABLE;
        }
        let found = component_rule(policy, kind, node, above);
        if found == UNREADABLE_COMPONENT {
            return UNREADABLE;
        }
        node = next(found);
        if rule(found) != 0 || node == 0 {
            return rule(found);
        }
        level += 1;
    }
    0
}

/// Follows the edge from `node` that reads the name of a dentry, or no name where
/// there is none: the rule that is complete with it and, in the upper half, the
/// node that it leads to. 0 where there is no edge, or [`UNREADABLE_COMPONENT`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn component_rule(policy: u64, kind: u64, node: u64, dentry: u64) -> u64 {
    let mut slot = MaybeUninit::uninit();
    let key = empty_key(&mut slot);
    key.policy = policy as u32;
    let mut len = 0;
    if dentry != 0 {
        // Of a place only the name is asked for.
        let place = Place {
            dentry,
            vfsmount: 0,
        };
        let Some(address) = place.name() else {
            return UNREADABLE_COMPONENT;
        };
        let Some(taken) = field::kernel_string(&mut key.name, address) else {
            return UNREADABLE_COMPONENT;
        };
        len = taken;
    }
    match edge(key, kind as u32, node as u32, len) {
        Some(found) => u64::from(found.next) << 32 | in_force(found),
        None => 0,
    }
}

/// The rule in an answer of [`component_rule`].
#[inline(always)]
fn rule(found: u64) -> u64 {
    found & 0xffff_ffff
}

/// The node in an answer of [`component_rule`].
#[inline(always)]
fn next(found: u64) -> u64 {
    found >> 32
}

/// Components of the path; [`DEEP_STEPS`] where there are more steps to the root.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn depth(dentry: u64, vfsmount: u64) -> u64 {
    let mut place = Place { dentry, vfsmount };
    let mut depth = 0;
    let mut steps = 0;
    while steps < DEEP_STEPS {
        steps += 1;
        match place.step() {
            None => return UNREADABLE,
            Some(Step::Root) => return depth,
            Some(Step::Mount(point)) => place = point,
            Some(Step::Up(above)) => {
                depth += 1;
                place = above;
            }
        }
    }
    DEEP_STEPS
}

/// Address of the dentry so many components above; 0 where it can't be read. The
/// root of a mount has the name of its mount point.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ancestor(dentry: u64, vfsmount: u64, components: u64) -> u64 {
    let mut place = Place { dentry, vfsmount };
    let mut left = components;
    let mut steps = 0;
    while steps < DEEP_STEPS {
        steps += 1;
        match place.step() {
            None | Some(Step::Root) => return 0,
            Some(Step::Mount(point)) => place = point,
            Some(Step::Up(above)) => {
                if left == 0 {
                    return place.dentry;
                }
                left -= 1;
                place = above;
            }
        }
    }
    0
}

#[inline(always)]
fn read(to: &mut [u8; NAME_CAPACITY], address: u64, how: u64) -> Option<u32> {
    if how & USER == 0 {
        field::kernel_string(to, address)
    } else {
        field::user_string(to, address)
    }
}

/// Where the last [`NAME_MAX`] bytes of a string begin, or the string itself where
/// it has no more; [`UNREADABLE`] also where it is longer than any path.
///
/// A component that a rule can name lies within them, so only these are searched
/// for a slash.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tail(start: u64, how: u64) -> u64 {
    let mut buffer = MaybeUninit::<[u8; NAME_CAPACITY]>::uninit();
    // SAFETY: bytes of any content, which nobody looks at.
    let buffer = unsafe { buffer.assume_init_mut() };
    let mut tail = start;
    let mut piece = 0;
    while piece < PIECES {
        // The first piece is read from its beginning, the others where they begin.
        let offset = if piece == 0 { 0 } else { NAME_MAX as u64 };
        let Some(len) = read(buffer, tail + offset, how) else {
            return UNREADABLE;
        };
        if piece != 0 {
            tail += u64::from(len);
        }
        if len < NAME_MAX as u32 {
            return tail;
        }
        piece += 1;
    }
    UNREADABLE
}

/// Where the last component begins of a string that [`tail`] found, and what is
/// behind the string's NUL.
#[inline(always)]
pub fn last_component(buffer: &mut [u8; NAME_CAPACITY], tail: u64, how: u64) -> Option<(u64, u64)> {
    let len = read(buffer, tail, how)?;
    let mut last = tail;
    let mut index = 0;
    while index < NAME_MAX {
        let byte = buffer[index];
        if byte == 0 {
            break;
        }
        if byte == b'/' {
            last = tail + index as u64 + 1;
        }
        index += 1;
    }
    Some((last, tail + u64::from(len) + 1))
}

/// The rule that is complete with an edge, if it holds now; else 0. Asks for the
/// time only where the rule has one.
#[inline(always)]
fn in_force(value: &RuleValue) -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    if value.holds_always() || value.holds(unsafe { bpf_ktime_get_boot_ns() }) {
        u64::from(value.rule)
    } else {
        0
    }
}

/// The rule that is complete with what was found.
#[inline(always)]
fn or_none(found: Option<&RuleValue>) -> u64 {
    match found {
        Some(value) => in_force(value),
        None => 0,
    }
}

/// Follows one edge.
#[inline(always)]
fn edge(key: &mut RuleKey, kind: u32, node: u32, len: u32) -> Option<&'static RuleValue> {
    key.kind = kind;
    key.node = node;
    key.len = len;
    // SAFETY: the entry may be replaced or deleted meanwhile; its memory stays
    // while the program runs, and each value of it is a valid RuleValue.
    unsafe { RULES.get(&*key) }
}

/// The longest glob that the name begins with.
#[inline(always)]
fn glob(key: &mut RuleKey, kind: u32, len: u32) -> Option<&'static RuleValue> {
    let counted = if len > GLOB_MAX as u32 {
        GLOB_MAX as u32
    } else {
        len
    };
    key.kind = kind;
    // The length's place is where the trie's key has its bits.
    key.len = GlobKey::BITS_BEFORE_NAME + 8 * counted;
    let from: *const u32 = &raw const key.len;
    GLOBS.longest(from.cast())
}

/// Reads a name again, its last byte first. To turn it around in place would be
/// writes at places that the verifier of Linux 6.1 can't follow.
#[inline(always)]
fn backwards(key: &mut RuleKey, start: u64, len: u32, how: u64) -> Option<()> {
    clear(key);
    let mut index = 0;
    while index < GLOB_MAX as u32 && index < len {
        let byte = start + u64::from(len - 1 - index);
        key.name[index as usize] = if how & USER == 0 {
            field::kernel_byte(byte)?
        } else {
            field::user_byte(byte)?
        };
        index += 1;
    }
    Some(())
}

/// Makes a key of zeros in place and by words: an ordinary value would become a
/// copy on the small stack, or a call of a function that goes byte by byte.
#[inline(always)]
fn empty_key(slot: &mut MaybeUninit<RuleKey>) -> &mut RuleKey {
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
