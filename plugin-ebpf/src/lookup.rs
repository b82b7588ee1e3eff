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
    KIND_PREFIX, KIND_REQUESTED, KIND_SUFFIX, NAME_CAPACITY, NAME_MAX, NAME_SHORT, PATH_MAX,
    RuleKey, RuleValue, ShortKey,
};

use crate::{
    field,
    maps::{GLOBS, RULES, RULES_LONG},
};

/// The answer where memory could not be read.
pub const UNREADABLE: u64 = 1 << 32;

/// The answer of [`edge`] and [`base`] where memory could not be read.
pub const UNREADABLE_STRING: u64 = u64::MAX;

/// The answer of [`short_edge`] for a string that is longer.
const TOO_LONG: u64 = u64::MAX - 1;

/// [`edge`], [`name_rule`], [`base`]: the address is in the process's memory.
pub const USER: u64 = 1;
/// [`name_rule`]: asks the allow-list.
pub const ALLOW: u64 = 2;
/// [`edge`]: there is no string, and the edge reads none.
pub const EMPTY: u64 = 4;

/// The length is not known before; else the upper half of what [`name_rule`] and
/// [`edge`] are told has it.
pub const ANY_LENGTH: u64 = 0xffff_ffff << 32;

/// Pieces of [`NAME_MAX`] bytes that the longest string given to exec has.
const PIECES: u32 = (PATH_MAX as u32).div_ceil(NAME_MAX as u32);

/// The rule that names this: whole, by its beginning or by its end.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn name_rule(policy: u64, kinds: u64, address: u64, how: u64) -> u64 {
    let (exact, prefix, suffix) = if how & ALLOW == 0 {
        (KIND_NAME, KIND_PREFIX, KIND_SUFFIX)
    } else {
        (KIND_ALLOW_NAME, KIND_ALLOW_PREFIX, KIND_ALLOW_SUFFIX)
    };
    if kinds & (1 << exact) != 0 {
        let found = edge(of(policy, exact), 0, address, how);
        if found == UNREADABLE_STRING {
            return UNREADABLE;
        }
        if rule(found) != 0 {
            return rule(found);
        }
    }
    if kinds & (1 << prefix) != 0 {
        let rule = glob_rule(of(policy, prefix), address, how);
        if rule != 0 {
            return rule;
        }
    }
    if kinds & (1 << suffix) != 0 {
        return glob_rule(of(policy, suffix), address, how);
    }
    0
}

/// The rule for the whole of a path that was requested.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn requested_rule(policy: u64, address: u64, how: u64) -> u64 {
    let mut piece = address;
    let mut node = 0;
    let mut pieces = 0;
    while pieces < PIECES {
        let of = of(policy, KIND_REQUESTED);
        let found = edge(of, node, piece, how | ANY_LENGTH);
        if found == UNREADABLE_STRING {
            return UNREADABLE;
        }
        // Only an edge of a whole piece leads on.
        node = next(found);
        if node == 0 {
            return rule(found);
        }
        piece += NAME_MAX as u64;
        pieces += 1;
    }
    0
}

/// First argument of most questions: the policy, and the kind of rule asked for in the
/// upper half. One number, since each has a place on the small stack.
#[inline(always)]
pub fn of(policy: u64, kind: u32) -> u64 {
    policy | u64::from(kind) << 32
}

/// Follows the edge from `node` that reads a string: the rule that is complete with
/// it and, in the upper half, the node that it leads to. 0 where there is no edge, or
/// [`UNREADABLE_STRING`], also where the string has not the length that it should.
#[inline(always)]
pub fn edge(of: u64, node: u64, address: u64, how: u64) -> u64 {
    let found = short_edge(of, node, address, how);
    if found == TOO_LONG {
        // Not called from there: the stack of both would be one.
        return long_edge(of, node, address, how);
    }
    found
}

/// As [`edge`]; [`TOO_LONG`] for a string that is longer than [`NAME_SHORT`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn short_edge(of: u64, node: u64, address: u64, how: u64) -> u64 {
    let mut slot = MaybeUninit::<Short>::uninit();
    // SAFETY: integers of any content; each is written before the kernel looks at it.
    let short = unsafe { slot.assume_init_mut() };
    clear(&mut short.name);
    let mut len = 0;
    if how & EMPTY == 0 {
        let Some(taken) = read(&mut short.name, address, how) else {
            return UNREADABLE_STRING;
        };
        len = taken;
        if len > NAME_SHORT as u32 {
            return TOO_LONG;
        }
        if is_other_length(len, how) {
            return UNREADABLE_STRING;
        }
    }
    short.policy = of as u32;
    short.kind = (of >> 32) as u32;
    short.node = node as u32;
    short.len = len;
    let key: *const Short = short;
    // SAFETY: it begins as a key of the map does. The entry may be replaced or deleted
    // meanwhile; its memory stays while the program runs, and each value of it is a
    // valid RuleValue.
    answer(unsafe { RULES.get(&*key.cast::<ShortKey>()) })
}

/// As [`edge`], for a string that is longer than [`NAME_SHORT`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn long_edge(of: u64, node: u64, address: u64, how: u64) -> u64 {
    let mut slot = MaybeUninit::<RuleKey>::uninit();
    // SAFETY: as in `edge`.
    let key = unsafe { slot.assume_init_mut() };
    clear(&mut key.name);
    let Some(len) = read_whole(&mut key.name, address, how) else {
        return UNREADABLE_STRING;
    };
    key.policy = of as u32;
    key.kind = (of >> 32) as u32;
    key.node = node as u32;
    key.len = len;
    // SAFETY: as in `edge`.
    answer(unsafe { RULES_LONG.get(&*key) })
}

/// Reads a string that has the length that it should.
#[inline(always)]
fn read_whole<const N: usize>(to: &mut [u8; N], address: u64, how: u64) -> Option<u32> {
    let len = read(to, address, how)?;
    if is_other_length(len, how) {
        return None;
    }
    Some(len)
}

/// Whether the string is not as long as it should be: changed under the reader, or
/// longer than any rule.
#[inline(always)]
fn is_other_length(len: u32, how: u64) -> bool {
    how & ANY_LENGTH != ANY_LENGTH && u64::from(len) != how >> 32
}

/// A [`ShortKey`] with room behind its name, so that a longer one is seen.
#[repr(C, align(8))]
struct Short {
    node: u32,
    len: u32,
    policy: u32,
    kind: u32,
    name: [u8; NAME_SHORT + 8],
}

#[inline(always)]
fn answer(found: Option<&RuleValue>) -> u64 {
    match found {
        Some(value) => u64::from(value.next) << 32 | in_force(value),
        None => 0,
    }
}

/// The rule of `kind` with the longest text that a name begins with, or ends with.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn glob_rule(of: u64, address: u64, how: u64) -> u64 {
    let mut slot = MaybeUninit::<Glob>::uninit();
    // SAFETY: as in `edge`.
    let key = unsafe { slot.assume_init_mut() };
    let Some(len) = read_whole(&mut key.name, address, how) else {
        return UNREADABLE;
    };
    let kind = (of >> 32) as u32;
    if (kind == KIND_SUFFIX || kind == KIND_ALLOW_SUFFIX)
        && backwards(key, address, len, how).is_none()
    {
        return UNREADABLE;
    }
    let counted = if len > GLOB_MAX as u32 {
        GLOB_MAX as u32
    } else {
        len
    };
    key.policy = of as u32;
    key.kind = (of >> 32) as u32;
    key.bits = GlobKey::BITS_BEFORE_NAME + 8 * counted;
    let key: *const Glob = key;
    match GLOBS.longest(key.cast()) {
        Some(value) => in_force(value),
        None => 0,
    }
}

/// A [`GlobKey`] with room for any name; what is behind its bits is not compared.
#[repr(C)]
struct Glob {
    bits: u32,
    policy: u32,
    kind: u32,
    name: [u8; NAME_CAPACITY],
}

/// Words of eight bytes that a pattern can have.
const GLOB_WORDS: u32 = GLOB_MAX as u32 / 8;

impl Glob {
    /// Four bytes of the name.
    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        // SAFETY: within the name, which lies on four bytes as the fields before it do.
        unsafe { self.name.as_ptr().cast::<u32>().add(index).read() }
    }

    /// Eight bytes of the name, in two parts: it does not lie on eight.
    #[inline(always)]
    fn set_words(&mut self, index: u32, bytes: u64) {
        let to: *mut u32 = self.name.as_mut_ptr().cast();
        // SAFETY: as above; there are GLOB_WORDS and more.
        unsafe {
            to.add(2 * index as usize).write(bytes as u32);
            to.add(2 * index as usize + 1).write((bytes >> 32) as u32);
        }
    }
}

/// The rule in an answer of [`edge`].
#[inline(always)]
pub fn rule(found: u64) -> u64 {
    found & 0xffff_ffff
}

/// The node in an answer of [`edge`].
#[inline(always)]
pub fn next(found: u64) -> u64 {
    found >> 32
}

#[inline(always)]
fn read<const N: usize>(to: &mut [u8; N], address: u64, how: u64) -> Option<u32> {
    if how & USER == 0 {
        field::kernel_string(to, address)
    } else {
        field::user_string(to, address)
    }
}

/// Where a string's last component begins, counted from its start, and in the upper
/// half what is behind its NUL; [`UNREADABLE_STRING`] also where it is longer than any
/// path.
///
/// A component that a rule can name lies within the last [`NAME_MAX`] bytes, so only
/// these are searched for a slash.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn base(start: u64, how: u64) -> u64 {
    let mut buffer = MaybeUninit::<[u8; NAME_CAPACITY]>::uninit();
    // SAFETY: bytes of any content; each is written by a read before it is looked at.
    let buffer = unsafe { buffer.assume_init_mut() };
    let Some(mut len) = read(buffer, start, how) else {
        return UNREADABLE_STRING;
    };
    let mut tail = 0;
    let mut pieces = 1;
    if len == NAME_MAX as u32 {
        while len == NAME_MAX as u32 && pieces < PIECES {
            let Some(more) = read(buffer, start + tail + NAME_MAX as u64, how) else {
                return UNREADABLE_STRING;
            };
            len = more;
            tail += u64::from(len);
            pieces += 1;
        }
        if len == NAME_MAX as u32 {
            return UNREADABLE_STRING;
        }
        match read(buffer, start + tail, how) {
            Some(last) => len = last,
            None => return UNREADABLE_STRING,
        }
    }
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
    (tail + u64::from(len) + 1) << 32 | last
}

/// The start of the last component in an answer of [`base`].
#[inline(always)]
pub fn last(base: u64) -> u64 {
    base & 0xffff_ffff
}

/// What is behind the NUL, in an answer of [`base`].
#[inline(always)]
pub fn end(base: u64) -> u64 {
    base >> 32
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

/// Turns a name around, so that its last byte comes first: eight bytes at a time, read
/// again from behind. To turn it around in place would be reads at places that the verifier
/// of Linux 6.1 can't follow.
#[inline(always)]
fn backwards(key: &mut Glob, start: u64, len: u32, how: u64) -> Option<()> {
    let left = len % 8;
    if len < GLOB_MAX as u32 && left != 0 {
        // What is left over at the end are the first bytes, which were read before.
        let first = u64::from(key.word(0)) | u64::from(key.word(1)) << 32;
        key.set_words(len / 8, first.swap_bytes() >> (8 * (8 - left)));
    }
    let mut words = 0;
    while words < GLOB_WORDS && 8 * (words + 1) <= len {
        let from = start + u64::from(len - 8 * (words + 1));
        let word = if how & USER == 0 {
            field::kernel_word(from)?
        } else {
            field::user_word(from)?
        };
        key.set_words(words, word.swap_bytes());
        words += 1;
    }
    Some(())
}

/// The key compares whole, so nothing may be left behind the name.
#[inline(always)]
fn clear<const N: usize>(name: &mut [u8; N]) {
    let words: *mut u64 = name.as_mut_ptr().cast();
    for index in 0..N / size_of::<u64>() {
        // SAFETY: within the array, aligned as the keys are. Volatile, so that it
        // does not become a call of a function that goes byte by byte.
        unsafe { words.add(index).write_volatile(0) };
    }
}
