//! The calls that execute a program, in all their forms and through every ABI.

use super::technique::Needs::Nothing;
use super::technique::Technique;
use super::technique::against::{BOTH, EVERY, MOST, NAME};

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "execve",
        about: "execve of the path",
        needs: Nothing,
        script: "$T",
        against: EVERY,
    },
    Technique {
        name: "execve-dynamic",
        about: "execve of a program that the dynamic loader starts",
        needs: Nothing,
        script: "$P",
        against: EVERY,
    },
    Technique {
        name: "by-shell",
        about: "the shell becomes the program",
        needs: Nothing,
        script: "exec $T",
        against: MOST,
    },
    Technique {
        name: "execveat",
        about: "execveat of an absolute path, the descriptor being none",
        needs: Nothing,
        script: "evade at-absolute $T",
        against: BOTH,
    },
    Technique {
        name: "execveat-cwd",
        about: "execveat of AT_FDCWD",
        needs: Nothing,
        script: "evade at-cwd $T",
        against: BOTH,
    },
    Technique {
        name: "execveat-folder",
        about: "execveat with a descriptor of the folder",
        needs: Nothing,
        script: "evade at ${T%/*} ${T##*/}",
        against: EVERY,
    },
    Technique {
        name: "execveat-nofollow",
        about: "execveat with AT_SYMLINK_NOFOLLOW",
        needs: Nothing,
        script: "evade at-nofollow $T",
        against: NAME,
    },
    Technique {
        name: "empty-path",
        about: "execveat of an O_PATH descriptor with AT_EMPTY_PATH",
        needs: Nothing,
        script: "evade empty-path $T",
        against: EVERY,
    },
    Technique {
        name: "empty-path-read",
        about: "execveat of a descriptor open for reading with AT_EMPTY_PATH",
        needs: Nothing,
        script: "evade empty-read $T",
        against: BOTH,
    },
    Technique {
        name: "fexecve",
        about: "fexecve of a descriptor",
        needs: Nothing,
        script: "evade fexecve $T",
        against: BOTH,
    },
    Technique {
        name: "proc-self-fd",
        about: "a descriptor's link in /proc/self/fd",
        needs: Nothing,
        script: "evade by-fd /proc/self/fd $T",
        against: EVERY,
    },
    Technique {
        name: "proc-thread-self-fd",
        about: "a descriptor's link in /proc/thread-self/fd",
        needs: Nothing,
        script: "evade by-fd /proc/thread-self/fd $T",
        against: NAME,
    },
    Technique {
        name: "dev-fd",
        about: "a descriptor's link in /dev/fd",
        needs: Nothing,
        script: "[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd; evade by-fd /dev/fd $T",
        against: NAME,
    },
    Technique {
        name: "ia32",
        about: "execve through int 0x80",
        needs: Nothing,
        script: "[ -x /usr/bin/exec_ia32 ] || echo N/A no compiler makes the helper; \
                 exec_ia32 $T; [ $? != 1 ] || echo Operation not permitted",
        against: MOST,
    },
    Technique {
        name: "ia32-execveat",
        about: "execveat through int 0x80",
        needs: Nothing,
        script: "[ -x /usr/bin/exec_ia32 ] || echo N/A no compiler makes the helper; \
                 exec_ia32 $T at; [ $? != 1 ] || echo Operation not permitted",
        against: BOTH,
    },
    Technique {
        name: "x32",
        about: "execve of the x32 ABI",
        needs: Nothing,
        script: "[ -x /usr/bin/exec_x32 ] || echo N/A no compiler makes the helper; \
                 evade exec /usr/bin/exec_x32 x $T; case $? in 1) echo Operation not \
                 permitted;; 38|125) echo N/A the kernel has no x32;; esac",
        against: BOTH,
    },
    Technique {
        name: "x32-execveat",
        about: "execveat of the x32 ABI",
        needs: Nothing,
        script: "[ -x /usr/bin/exec_x32 ] || echo N/A no compiler makes the helper; \
                 evade exec /usr/bin/exec_x32 x $T at; case $? in 1) echo Operation not \
                 permitted;; 38|125) echo N/A the kernel has no x32;; esac",
        against: NAME,
    },
    Technique {
        name: "vfork",
        about: "execve in a child that has borrowed its parent's memory",
        needs: Nothing,
        script: "evade vfork $T",
        against: BOTH,
    },
    Technique {
        name: "clone-vm",
        about: "execve in a child that shares memory and goes on beside its parent",
        needs: Nothing,
        script: "evade clone 0 $T",
        against: NAME,
    },
    Technique {
        name: "clone-vm-vfork",
        about: "the same, with CLONE_VFORK and CLONE_FILES",
        needs: Nothing,
        script: "evade clone 0x4400 $T",
        against: NAME,
    },
    Technique {
        name: "posix-spawn",
        about: "posix_spawn",
        needs: Nothing,
        script: "evade spawn $T",
        against: NAME,
    },
    Technique {
        name: "thread",
        about: "execve by a thread that is not the leader",
        needs: Nothing,
        script: "evade thread $T",
        against: BOTH,
    },
    Technique {
        name: "thread-without-leader",
        about: "execve by a thread whose leader has ended",
        needs: Nothing,
        script: "evade thread-without-leader $T",
        against: NAME,
    },
    Technique {
        name: "no-argv",
        about: "an empty list of words",
        needs: Nothing,
        script: "evade no-argv $T",
        against: BOTH,
    },
    Technique {
        name: "null-argv",
        about: "a list of words that is NULL",
        needs: Nothing,
        script: "evade null-argv $T",
        against: NAME,
    },
    Technique {
        name: "empty-argv0",
        about: "a first word that is empty",
        needs: Nothing,
        script: "evade exec $T ''",
        against: BOTH,
    },
    Technique {
        name: "long-argv0",
        about: "a first word of 100,000 bytes",
        needs: Nothing,
        script: "evade long-argv0 $T 100000",
        against: NAME,
    },
    Technique {
        name: "many-args",
        about: "a thousand words",
        needs: Nothing,
        script: "evade many-args $T 1000",
        against: NAME,
    },
    Technique {
        name: "other-argv0",
        about: "a first word that names another program",
        needs: Nothing,
        script: "evade exec $T /bin/true",
        against: MOST,
    },
];
