//! Programs that others start: interpreters of scripts, and binfmt_misc.

use super::technique::Expect::Escapes;
use super::technique::Needs::{Admin, Nothing};
use super::technique::Policy::{Allow, Drift, DriftName, Name};
use super::technique::Technique;
use super::technique::against::{BOTH, DENIED, EVERY, LAST_ONLY, LOADED, NAME};

const READ: &str = "the shell reads it, and executes nothing of that name";

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "shebang",
        about: "a script whose interpreter is the program",
        needs: Nothing,
        script: "echo \"#!$T\" >s; chmod +x s; ./s",
        against: EVERY,
    },
    Technique {
        name: "shebang-spaces",
        about: "`#!` followed by white space and an option",
        needs: Nothing,
        script: "printf \"#! \\t $T -x\\n\" >s; chmod +x s; ./s",
        against: BOTH,
    },
    Technique {
        name: "shebang-link",
        about: "the interpreter is a link",
        needs: Nothing,
        script: "ln -s $T link; echo \"#!$D/link\" >s; chmod +x s; ./s",
        against: BOTH,
    },
    Technique {
        name: "shebang-chain",
        about: "an interpreter that is a script, four times",
        needs: Nothing,
        script: "echo \"#!$T\" >s1; for i in 2 3 4; do echo \"#!$D/s$((i-1))\" >s$i; \
                 done; chmod +x s*; ./s4",
        against: DENIED,
    },
    Technique {
        name: "shebang-relative",
        about: "an interpreter with a relative path",
        needs: Nothing,
        script: "cd ${T%/*}; echo \"#!./${T##*/}\" >/tmp/ev/s; chmod +x /tmp/ev/s; /tmp/ev/s",
        against: NAME,
    },
    Technique {
        name: "shebang-env",
        about: "an interpreter that env starts",
        needs: Nothing,
        script: "echo \"#!/bin/env $T\" >s; chmod +x s; ./s",
        against: BOTH,
    },
    Technique {
        name: "shebang-busybox",
        about: "an interpreter that BusyBox starts",
        needs: Nothing,
        script: "printf \"#!/bin/busybox sh\\nexec $T\\n\" >s; chmod +x s; ./s",
        against: BOTH,
    },
    Technique {
        name: "shebang-loader",
        about: "the dynamic loader is the interpreter",
        needs: Nothing,
        script: "echo \"#!/lib64/ld-linux-x86-64.so.2 $P\" >s; chmod +x s; ./s",
        against: LOADED,
    },
    Technique {
        name: "shebang-no-newline",
        about: "a script that ends after its interpreter",
        needs: Nothing,
        script: "printf \"#!$T\" >s; chmod +x s; ./s",
        against: NAME,
    },
    Technique {
        name: "shebang-by-descriptor",
        about: "a script that is executed by its descriptor",
        needs: Nothing,
        script: "echo \"#!$T\" >s; chmod +x s; evade empty-read s",
        against: NAME,
    },
    Technique {
        name: "script-named-so",
        about: "a script of the denied name",
        needs: Nothing,
        script: "printf \"#!/bin/sh\\necho EVASION-MARK\\n\" >whoami; chmod +x whoami; \
                 ./whoami",
        against: NAME,
    },
    Technique {
        name: "script-read",
        about: "a script of the denied name that the shell is told to read",
        needs: Nothing,
        script: "printf \"echo EVASION-MARK\\n\" >whoami; sh ./whoami",
        against: &[
            (Name, Escapes(READ)),
            (Drift, Escapes(READ)),
            (Allow, Escapes(READ)),
        ],
    },
    Technique {
        name: "script-sourced",
        about: "the same with the dot command",
        needs: Nothing,
        script: "printf \"echo EVASION-MARK\\n\" >whoami; . ./whoami",
        against: &[(Name, Escapes(READ)), (DriftName, Escapes(READ))],
    },
    Technique {
        name: "script-dropped",
        about: "a dropped script that is executed",
        needs: Nothing,
        script: "printf \"#!/bin/sh\\necho EVASION-MARK\\n\" >s; chmod +x s; ./s",
        against: &[
            (Drift, LAST_ONLY),
            (DriftName, LAST_ONLY),
            (Allow, LAST_ONLY),
        ],
    },
    Technique {
        name: "no-shebang",
        about: "a dropped script without `#!`, which the shell runs itself",
        needs: Nothing,
        script: "echo \"exec $T\" >s; chmod +x s; ./s",
        against: BOTH,
    },
    Technique {
        name: "binfmt-misc",
        about: "binfmt_misc starts the program for a magic number",
        needs: Admin,
        script: "mkdir b; mount -t binfmt_misc b b || echo N/A no \
                 binfmt_misc; echo \":evade:M::EVADEMAGIC::$T:\" >b/register; echo \
                 EVADEMAGIC >f; chmod +x f; ./f; echo -1 >b/evade",
        against: BOTH,
    },
    Technique {
        name: "binfmt-misc-open",
        about: "the same, with an interpreter that was opened before",
        needs: Admin,
        script: "mkdir b; mount -t binfmt_misc b b || echo N/A no binfmt_misc; echo \
                 \":evade:M::EVADEMAGIC::$T:F\" >b/register; echo EVADEMAGIC >f; chmod \
                 +x f; ./f; echo -1 >b/evade",
        against: NAME,
    },
    Technique {
        name: "binfmt-misc-argv",
        about: "the same, with the descriptor of the file and its words",
        needs: Admin,
        script: "mkdir b; mount -t binfmt_misc b b || echo N/A no binfmt_misc; echo \
                 \":evade:E::evade::$T:OCP\" >b/register; echo x >f.evade; chmod +x \
                 f.evade; ./f.evade; echo -1 >b/evade",
        against: NAME,
    },
];
