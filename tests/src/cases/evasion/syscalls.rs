//! The calls that execute a program, in all their forms and through every ABI.

use super::technique::Expect::Held;
use super::technique::Needs::{Admin, Nothing};
use super::technique::Policy::{Name, Path};
use super::technique::{Expect, Policy, Technique};

/// What a name and a path deny alike.
const BOTH: &[(Policy, Expect)] = &[(Name, Held), (Path, Held)];

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "execve",
        about: "execve of the path",
        needs: Nothing,
        script: "$T",
        against: BOTH,
    },
    Technique {
        name: "execve-dynamic",
        about: "execve of a program that the dynamic loader starts",
        needs: Nothing,
        script: "$P",
        against: BOTH,
    },
    Technique {
        name: "relative",
        about: "a path relative to the working folder",
        needs: Nothing,
        script: "cd /; .$T",
        against: BOTH,
    },
    Technique {
        name: "dots-and-slashes",
        about: "a path with `..`, `//` and `./`",
        needs: Nothing,
        script: "cd /tmp; ../tmp/.././/opt//./static/../static/${T##*/}",
        against: BOTH,
    },
    Technique {
        name: "empty-path",
        about: "execveat of an O_PATH descriptor with AT_EMPTY_PATH",
        needs: Nothing,
        script: "evade empty-path $T",
        against: BOTH,
    },
    Technique {
        name: "fexecve",
        about: "fexecve of a descriptor open for reading",
        needs: Nothing,
        script: "evade fexecve $T",
        against: BOTH,
    },
    Technique {
        name: "execveat-folder",
        about: "execveat with a descriptor of the folder",
        needs: Nothing,
        script: "evade at ${T%/*} ${T##*/}",
        against: BOTH,
    },
    Technique {
        name: "proc-self-fd",
        about: "a descriptor's link in /proc/self/fd",
        needs: Nothing,
        script: "evade by-fd /proc/self/fd $T",
        against: BOTH,
    },
    Technique {
        name: "ia32",
        about: "execve through int 0x80",
        needs: Nothing,
        script: "[ -x /usr/bin/exec_ia32 ] || echo N/A no compiler for it; \
                 /usr/bin/exec_ia32 $T; [ $? != 1 ] || echo Operation not permitted",
        against: BOTH,
    },
    Technique {
        name: "chroot",
        about: "execve after a chroot into the program's folder",
        needs: Nothing,
        script: "evade chroot ${T%/*} /${T##*/}",
        against: BOTH,
    },
    Technique {
        name: "thread",
        about: "execve by a thread that is not the leader",
        needs: Nothing,
        script: "evade thread $T",
        against: BOTH,
    },
    Technique {
        name: "path-not-resident",
        about: "the path stands in a mapped file that was never touched",
        needs: Nothing,
        script: "evade untouched $T",
        against: BOTH,
    },
    Technique {
        name: "userfaultfd",
        about: "the path's page comes when the kernel asks for it",
        needs: Admin,
        script: "evade userfaultfd $T",
        against: BOTH,
    },
];
