//! Copies, files without a name, and code that no file is behind.

use super::technique::Expect::{self, Escapes, Held};
use super::technique::Needs::Nothing;
use super::technique::Policy::{
    self, Allow, AllowPath, Directory, Drift, DriftName, DriftVolume, Glob, Name, Path,
};
use super::technique::Technique;

const COPIED: &str = "a copy has neither the name nor the path of the rule";
const NO_FILE: &str = "nothing is executed: code is read into memory";
/// What deny rules can't see, and drift and allow-lists close.
const COPY: &[(Policy, Expect)] = &[
    (Name, Escapes(COPIED)),
    (Path, Escapes(COPIED)),
    (Directory, Escapes(COPIED)),
    (Glob, Escapes(COPIED)),
    (Allow, Held),
    (AllowPath, Held),
    (Drift, Held),
    (DriftName, Held),
    (DriftVolume, Held),
];
/// The same, where a few say enough.
const SOME: &[(Policy, Expect)] = &[
    (Name, Escapes(COPIED)),
    (Allow, Held),
    (DriftName, Held),
    (DriftVolume, Held),
];
const ANONYMOUS: &[(Policy, Expect)] = &[
    (Name, Escapes(NO_FILE)),
    (Allow, Escapes(NO_FILE)),
    (Drift, Escapes(NO_FILE)),
    (DriftName, Escapes(NO_FILE)),
];

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "copy",
        about: "a copy under another name",
        needs: Nothing,
        script: "cp $T other; ./other",
        against: COPY,
    },
    Technique {
        name: "copy-dynamic",
        about: "a copy of a program of the dynamic loader's",
        needs: Nothing,
        script: "cp $P other; ./other",
        against: SOME,
    },
    Technique {
        name: "copy-same-name",
        about: "a copy of the same name in another folder",
        needs: Nothing,
        script: "cp $T ${T##*/}; ./${T##*/}",
        against: &[
            (Name, Held),
            (Glob, Held),
            (Path, Escapes(COPIED)),
            (Directory, Escapes(COPIED)),
            (Allow, Held),
            (DriftName, Held),
        ],
    },
    Technique {
        name: "copy-other-case",
        about: "a copy whose name differs in case",
        needs: Nothing,
        script: "cp $T WHOAMI; ./WHOAMI",
        against: SOME,
    },
    Technique {
        name: "copy-space",
        about: "a copy whose name ends in a space",
        needs: Nothing,
        script: "cp $T \"whoami \"; \"./whoami \"",
        against: SOME,
    },
    Technique {
        name: "copy-newline",
        about: "a copy whose name ends in a line break",
        needs: Nothing,
        script: "n=$(printf 'whoami\\nx'); n=${n%x}; cp $T \"$n\"; \"./$n\"",
        against: SOME,
    },
    Technique {
        name: "copy-lookalike",
        about: "a copy whose name looks the same: a Cyrillic letter",
        needs: Nothing,
        script: "n=$(printf 'who\\320\\260mi'); cp $T $n; ./$n",
        against: SOME,
    },
    Technique {
        name: "copy-dash",
        about: "a copy whose name begins with a dash",
        needs: Nothing,
        script: "cp $T ./-whoami; ./-whoami",
        against: SOME,
    },
    Technique {
        name: "memfd",
        about: "a copy in a memfd",
        needs: Nothing,
        script: "evade memfd other $T",
        against: COPY,
    },
    Technique {
        name: "memfd-named-so",
        about: "a copy in a memfd of the denied name",
        needs: Nothing,
        script: "evade memfd whoami $T",
        against: SOME,
    },
    Technique {
        name: "memfd-slash",
        about: "a copy in a memfd whose name has a slash",
        needs: Nothing,
        script: "evade memfd /bin/busybox $T",
        against: SOME,
    },
    Technique {
        name: "memfd-exec",
        about: "a copy in a memfd that asks to be executable",
        needs: Nothing,
        script: "evade memfd other $T exec",
        against: SOME,
    },
    Technique {
        name: "memfd-runc",
        about: "a sealed memfd, named and called as runc's copy of itself",
        needs: Nothing,
        script: "evade memfd-sealed runc_cloned:/proc/self/exe $T",
        against: COPY,
    },
    Technique {
        name: "tmpfile",
        about: "a file that never had a name (O_TMPFILE)",
        needs: Nothing,
        script: "evade tmpfile $D $T",
        against: SOME,
    },
    Technique {
        name: "unlinked",
        about: "a copy that has lost its name",
        needs: Nothing,
        script: "cp $T other; evade unlinked other",
        against: SOME,
    },
    Technique {
        name: "recreated",
        about: "a file that was removed and made again",
        needs: Nothing,
        script: "cp $T other; rm other; cp $T other; ./other",
        against: SOME,
    },
    Technique {
        name: "overwritten",
        about: "another program of the image, overwritten",
        needs: Nothing,
        script: "cp $T /opt/victim/overwritten; /opt/victim/overwritten",
        against: SOME,
    },
    Technique {
        name: "through-pipe",
        about: "a copy that came through a pipe",
        needs: Nothing,
        script: "cat $T | cat >other; chmod +x other; ./other",
        against: SOME,
    },
    Technique {
        name: "one-byte-more",
        about: "a copy with one byte more",
        needs: Nothing,
        script: "cp $T other; echo >>other; ./other",
        against: SOME,
    },
    Technique {
        name: "dev-shm",
        about: "a copy in /dev/shm",
        needs: Nothing,
        script: "cp $T /dev/shm/other; /dev/shm/other 2>err; grep -q \"Permission \
                 denied\" err && echo N/A mounted noexec; cat err; rm /dev/shm/other",
        against: SOME,
    },
    Technique {
        name: "volume-copy",
        about: "a copy on a volume",
        needs: Nothing,
        script: "cp $T /vol/other/copy; /vol/other/copy; rm /vol/other/copy",
        against: SOME,
    },
    Technique {
        name: "read-and-jump",
        about: "code read into anonymous memory, and jumped to",
        needs: Nothing,
        script: "evade read-and-jump $T",
        against: ANONYMOUS,
    },
    Technique {
        name: "reimplemented",
        about: "another program that does the same",
        needs: Nothing,
        script: "echo EVASION-MARK",
        against: ANONYMOUS,
    },
];
