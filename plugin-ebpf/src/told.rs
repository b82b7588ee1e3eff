//! Whether a denial was told before: one is told once, however many hooks see it.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use plugin_common::{DENIAL_WINDOW, Told};

use crate::{
    field::{self, Task},
    lookup::USER,
    maps::TOLD,
    offsets::{TASK_EXEC_ID, constant},
    report::now,
};

/// [`is_told`]: it was not refused.
pub const AUDITED: u64 = 2;
/// [`is_told`]: asked where another hook may have seen the same exec.
pub const BEHIND: u64 = 4;

/// The answer of [`is_told`] where another program looked at the same image, and told.
pub const ANOTHER_LOOK: u64 = 2;

/// Whether this denial of the current process was told already: by a hook before
/// this one, or when its shell tried the program under another name of its PATH.
/// Those who try the same name again are told again.
///
/// A global function, as those of [`lookup`](crate::lookup).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_told(rule: u64, requested: u64, how: u64) -> u64 {
    let rule = rule as u32;
    let thread = bpf_get_current_pid_tgid();
    if TOLD.get_ptr_mut(&thread).is_none() {
        let new = Told {
            at: 0,
            rule: 0,
            first: 0,
            last: 0,
            audited: [0; 2],
            last_part: 0,
            image_at: 0,
            image: 0,
            reserved: 0,
        };
        // Nobody else makes it: the thread is this one.
        let _made = TOLD.insert(&thread, &new, 0);
    }
    let Some(told) = TOLD.get_ptr_mut(&thread) else {
        return 0;
    };
    // SAFETY: the map's value is a valid Told, and only its own thread's.
    let told = unsafe { &mut *told };
    let now = now();
    if how & BEHIND != 0 && constant(&TASK_EXEC_ID) != 0 {
        let image = Task::current().exec_id();
        // Threads' ids come again, but not so soon.
        if told.image == image && now.saturating_sub(told.image_at) < DENIAL_WINDOW {
            return ANOTHER_LOOK;
        }
        told.image = image;
        told.image_at = now;
    }
    let lately = now.saturating_sub(told.at) < DENIAL_WINDOW;
    if how & AUDITED != 0 {
        let known = told.audited[0] == rule || told.audited[1] == rule;
        if how & BEHIND == 0 {
            told.audited = [rule, told.audited[0]];
            if !lately {
                // What was denied before is long ago, and stays so.
                told.rule = 0;
            }
            told.at = now;
            return 0;
        }
        told.audited = [0; 2];
        return u64::from(known && lately);
    }
    let (whole, last_part) = hashes(requested, how);
    // A mapping has no name. Several programs may meet one rule.
    let is_name = whole != 0 && told.first != 0 && last_part == told.last_part;
    let is_other = whole != told.first && whole != told.last;
    let again = told.rule == rule && lately && is_name && is_other;
    told.last = whole;
    if !again {
        told.rule = rule;
        told.first = whole;
        told.last_part = last_part;
        told.at = now;
    }
    u64::from(again)
}

/// Tells names apart by their beginning, as a whole and in what of it is behind the
/// last slash; zeros where there is none to be read.
#[inline(always)]
fn hashes(address: u64, how: u64) -> (u32, u32) {
    const WORDS: usize = 16;
    // FNV-1a.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    if address == 0 {
        return (0, 0);
    }
    let mut words = MaybeUninit::<[u64; WORDS]>::uninit();
    for index in 0..WORDS {
        // SAFETY: within the array. Volatile, as in `empty_key`.
        unsafe {
            words
                .as_mut_ptr()
                .cast::<u64>()
                .add(index)
                .write_volatile(0)
        };
    }
    // SAFETY: every word was written, and a word is eight bytes.
    let bytes = unsafe { &mut *words.as_mut_ptr().cast::<[u8; WORDS * size_of::<u64>()]>() };
    let _len = if how & USER == 0 {
        field::kernel_string(bytes, address)
    } else {
        field::user_string(bytes, address)
    };
    let mut part = BASIS;
    let mut index = 0;
    while index < bytes.len() {
        part = match bytes[index] {
            0 => break,
            b'/' => BASIS,
            byte => (part ^ u64::from(byte)).wrapping_mul(PRIME),
        };
        index += 1;
    }
    // SAFETY: as above.
    let words = unsafe { words.assume_init_ref() };
    let mut whole = BASIS;
    let mut index = 0;
    while index < WORDS {
        whole = (whole ^ words[index]).wrapping_mul(PRIME);
        index += 1;
    }
    let folded = |sum: u64| (sum ^ sum >> 32) as u32;
    (folded(whole), folded(part))
}
