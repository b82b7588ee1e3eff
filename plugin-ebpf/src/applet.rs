//! Which program an argument asks for: the applet of a multi-call binary, or what
//! the dynamic loader is to run. Read from the new image's memory, where the
//! kernel has just put it.

use crate::{
    field,
    lookup::{self, UNREADABLE, UNREADABLE_STRING, USER},
};

/// [`find`]: the loader's arguments count too.
pub const LOADER: u64 = 1 << 32;

/// The answer where there are more arguments to skip than anybody gives, or one
/// is longer than any path or can't be read.
pub const UNREADABLE_ARGUMENTS: u64 = u64::MAX;

/// Arguments that are looked at.
const ARGUMENTS: u32 = 24;

/// What is read of an argument to know what it is: as much as the longest option
/// below.
#[repr(C, align(8))]
struct Head([u8; 32]);

/// [`called`]: something else.
const OTHER: u64 = 0;
/// [`called`]: `busybox`, `toybox`, `coreutils`.
const MULTI_CALL: u64 = 1;
/// [`called`]: `ld-linux-x86-64.so.2` and its like.
const THE_LOADER: u64 = 2;

/// [`option`]: it does not begin with a dash.
const NO_OPTION: u64 = 0;
/// [`option`]: its value is in itself, or it has none.
const AN_OPTION: u64 = 1;
/// [`option`]: its value is the next argument.
const VALUE_NEXT: u64 = 2;
/// [`option`]: so many bytes into it stands a program.
const PROGRAM_BEHIND: u64 = 16;

/// The address of the argument that names the program to run; 0 where there is
/// none. `name` is the address of the file's name, `arguments` that of the first
/// argument without a dash, `first` what [`lookup::base`] says of that, `argc` their
/// number and maybe [`LOADER`].
///
/// [`UNREADABLE_ARGUMENTS`] where the file's name or a further argument can't be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find(name: u64, arguments: u64, first: u64, argc: u64) -> u64 {
    // Whatever file it is: a multi-call binary goes by its first argument, and the
    // loader does not.
    let mut called = called(arguments + lookup::last(first), USER);
    if called != MULTI_CALL {
        called = OTHER;
        if argc & LOADER != 0 {
            called = self::called(name, 0);
            if called == UNREADABLE {
                return UNREADABLE_ARGUMENTS;
            }
            if called != THE_LOADER {
                called = OTHER;
            }
        }
    }
    let argc = argc as u32;
    let mut argument = arguments + lookup::end(first);
    if argc > 1 && called != MULTI_CALL {
        // GNU's single binary takes it under any name that is none of its own.
        let option = option(argument);
        if option >= PROGRAM_BEHIND && option != UNREADABLE {
            return argument + (option - PROGRAM_BEHIND);
        }
    }
    if called != MULTI_CALL && called != THE_LOADER {
        return 0;
    }
    let mut index = 1;
    let mut is_value = false;
    while index < ARGUMENTS {
        if index >= argc {
            return 0;
        }
        let base = lookup::base(argument, USER);
        let option = option(argument);
        if base == UNREADABLE_STRING || option == UNREADABLE {
            return UNREADABLE_ARGUMENTS;
        }
        if called == MULTI_CALL {
            if option >= PROGRAM_BEHIND {
                return argument + (option - PROGRAM_BEHIND);
            }
            // `busybox busybox whoami`
            if self::called(argument + lookup::last(base), USER) != MULTI_CALL {
                return argument;
            }
        } else if is_value {
            is_value = false;
        } else if option == NO_OPTION {
            return argument;
        } else {
            is_value = option == VALUE_NEXT;
        }
        argument += lookup::end(base);
        index += 1;
    }
    UNREADABLE_ARGUMENTS
}

/// How many arguments there are between two addresses, of those that [`find`] looks at.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count(arguments: u64, end: u64) -> u64 {
    let mut argument = arguments;
    let mut index = 0;
    while index < ARGUMENTS {
        if argument >= end {
            return u64::from(index);
        }
        let base = lookup::base(argument, USER);
        if base == UNREADABLE_STRING {
            // It is for `find` to say so.
            return u64::from(ARGUMENTS);
        }
        argument += lookup::end(base);
        index += 1;
    }
    u64::from(ARGUMENTS)
}

/// What a program is, by its name.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn called(name: u64, how: u64) -> u64 {
    let mut head = Head([0; 32]);
    let taken = if how & USER == 0 {
        field::kernel_string(&mut head.0, name)
    } else {
        field::user_string(&mut head.0, name)
    };
    if taken.is_none() {
        return UNREADABLE;
    }
    if starts(&head, b"busybox") || starts(&head, b"toybox") || starts(&head, b"coreutils") {
        MULTI_CALL
    } else if starts(&head, b"ld-")
        || starts(&head, b"ld.")
        || starts(&head, b"ld64.")
        // musl's C library is its loader too.
        || starts(&head, b"libc.")
    {
        THE_LOADER
    } else {
        OTHER
    }
}

/// What an argument is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn option(argument: u64) -> u64 {
    let mut head = Head([0; 32]);
    if field::user_string(&mut head.0, argument).is_none() {
        return UNREADABLE;
    }
    if head.0[0] != b'-' {
        return NO_OPTION;
    }
    // GNU's single binary has its program behind the `=`.
    if starts(&head, b"--coreutils-prog=") {
        return PROGRAM_BEHIND + 17;
    }
    if starts(&head, b"--coreutils-prog-shebang=") {
        return PROGRAM_BEHIND + 25;
    }
    if takes_value(&head) {
        return VALUE_NEXT;
    }
    AN_OPTION
}

/// Whether it is an option of the loader whose value is the next argument.
/// Sources: glibc `elf/rtld.c`, musl `ldso/dynlink.c`.
#[inline(always)]
fn takes_value(head: &Head) -> bool {
    // One by one: a table of them would be one of pointers, which the verifier
    // does not follow.
    starts(head, b"--library-path\0")
        || starts(head, b"--preload\0")
        || starts(head, b"--audit\0")
        || starts(head, b"--argv0\0")
        || starts(head, b"--inhibit-rpath\0")
        || starts(head, b"--glibc-hwcaps-prepend\0")
        || starts(head, b"--glibc-hwcaps-mask\0")
}

/// Whether the bytes begin so. By words and with one condition: one for each byte
/// would be that many ways for the verifier to go.
#[inline(always)]
fn starts(head: &Head, with: &[u8]) -> bool {
    let mut differs = 0;
    let mut word = 0;
    while word * size_of::<u64>() < with.len() {
        let (mut mask, mut wanted) = (0, 0);
        let mut byte = 0;
        while byte < size_of::<u64>() {
            if let Some(letter) = with.get(word * size_of::<u64>() + byte) {
                mask |= 0xff << (8 * byte);
                wanted |= (*letter as u64) << (8 * byte);
            }
            byte += 1;
        }
        let from: *const u64 = head.0.as_ptr().cast();
        // SAFETY: no text is longer than the head, which is aligned for words.
        // Volatile, so that the read stays one of a word.
        let there = unsafe { from.add(word).read_volatile() };
        differs |= (there & mask) ^ wanted;
        word += 1;
    }
    differs == 0
}
