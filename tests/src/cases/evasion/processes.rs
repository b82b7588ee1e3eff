//! What a process is or says of itself, and one that changes another.

use super::technique::Needs::{Admin, Nothing};
use super::technique::Technique;
use super::technique::against::{BOTH, MOST, NAME};

/// Tries it forty times while sixteen shells do nothing but execute.
macro_rules! stampede {
    ($program:literal) => {
        concat!(
            "p=; for j in $(seq 16); do (while :; do /bin/true; done) & p=\"$p $!\"; done; \
             i=0; while [ $i -lt 40 ]; do ",
            $program,
            "; i=$((i+1)); done 2>&1 | sort | uniq -c | sed \"s/^ *[0-9]* //\"; kill -9 $p; wait"
        )
    };
}

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "comm",
        about: "the process calls itself another name",
        needs: Nothing,
        script: "evade comm innocent $T",
        against: BOTH,
    },
    Technique {
        name: "comm-runc",
        about: "the process calls itself runc:[2:INIT]",
        needs: Nothing,
        script: "evade comm 'runc:[2:INIT]' $T",
        against: MOST,
    },
    Technique {
        name: "exe-file",
        about: "the process says that it is another program (PR_SET_MM_MAP)",
        needs: Admin,
        script: "evade exe-file /bin/busybox $T",
        against: NAME,
    },
    Technique {
        name: "traced",
        about: "a tracer writes the path at the entry of the call",
        needs: Nothing,
        script: "evade traced $T /bin/true",
        against: BOTH,
    },
    Technique {
        name: "traced-call",
        about: "a tracer makes an execve of a call that is none",
        needs: Nothing,
        script: "evade traced-call $T",
        against: BOTH,
    },
    Technique {
        name: "notified",
        about: "a seccomp supervisor writes the path, then lets the call go on",
        needs: Nothing,
        script: "evade notified $T /bin/true",
        against: BOTH,
    },
    Technique {
        name: "filtered",
        about: "behind a seccomp filter",
        needs: Nothing,
        script: "evade filtered $T",
        against: NAME,
    },
    Technique {
        name: "undumpable",
        about: "undumpable, and without new privileges",
        needs: Nothing,
        script: "evade undumpable $T",
        against: NAME,
    },
    Technique {
        name: "signals-blocked",
        about: "with all signals blocked and ignored",
        needs: Nothing,
        script: "evade signals-blocked $T",
        against: MOST,
    },
    Technique {
        name: "small-stack",
        about: "with the smallest stack",
        needs: Nothing,
        script: "evade small-stack $T",
        against: NAME,
    },
    Technique {
        name: "small-limits",
        about: "with all other limits at their lowest",
        needs: Nothing,
        script: "evade small-limits $T",
        against: NAME,
    },
    Technique {
        name: "no-descriptors",
        about: "with no descriptor that may be opened",
        needs: Nothing,
        script: "ulimit -n 3; exec $T",
        against: NAME,
    },
    Technique {
        name: "background",
        about: "as a process that nobody waits for",
        needs: Nothing,
        script: "mkfifo p; (($T; [ $? != 137 ] || echo Killed) >p 2>&1 &); cat p",
        against: NAME,
    },
    Technique {
        name: "storm",
        about: "a storm of executions, one after another",
        needs: Nothing,
        script: "i=0; while [ $i -lt 60 ]; do $T; i=$((i+1)); done 2>&1 | sort | uniq -c \
                 | sed \"s/^ *[0-9]* //\"",
        against: MOST,
    },
    Technique {
        name: "storm-parallel",
        about: "a storm of executions at the same time",
        needs: Nothing,
        script: "for j in 1 2 3 4 5 6 7 8; do (for i in 1 2 3 4 5 6 7 8 9 10; do $T; \
                 done) & done; wait",
        against: MOST,
    },
    Technique {
        name: "stampede",
        about: "while others execute, more than there are processors",
        needs: Nothing,
        script: stampede!("$T"),
        against: NAME,
    },
    Technique {
        name: "stampede-applet",
        about: "the same, the program being an applet",
        needs: Nothing,
        script: stampede!("busybox whoami"),
        against: NAME,
    },
    Technique {
        name: "new-session",
        about: "in a session of its own",
        needs: Nothing,
        script: "(setsid $T); [ $? != 137 ] || echo Killed",
        against: NAME,
    },
    Technique {
        name: "other-user",
        about: "as another user",
        needs: Nothing,
        script: "chmod 755 $D; busybox su -s /bin/sh nobody -c $T",
        against: NAME,
    },
];
