//! Ways to look like what an allow-list names.

use super::technique::Expect::{self, Escapes, Held};
use super::technique::Needs::{Admin, Nothing};
use super::technique::Policy::{self, Allow, AllowPath, DriftVolume};
use super::technique::Technique;
use super::technique::against::LAST_ONLY;

const LISTED: &str =
    "its name or folder is one of the list; drift, or paths that can't be written, close it";
const ALL: &[(Policy, Expect)] = &[(Allow, Held), (AllowPath, Held), (DriftVolume, Held)];

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "listed-argv0",
        about: "the first word names a program of the list",
        needs: Nothing,
        script: "evade exec $T /bin/busybox",
        against: ALL,
    },
    Technique {
        name: "listed-link",
        about: "a link of a listed name",
        needs: Nothing,
        script: "ln -s $T busybox; ./busybox",
        against: ALL,
    },
    Technique {
        name: "copy-listed-name",
        about: "a copy under a listed name",
        needs: Nothing,
        script: "cp $T busybox; ./busybox",
        against: &[
            (Allow, Escapes(LISTED)),
            (AllowPath, Held),
            (DriftVolume, Held),
        ],
    },
    Technique {
        name: "copy-listed-folder",
        about: "a copy in a listed folder",
        needs: Nothing,
        script: "cp $T /opt/ok/copy; /opt/ok/copy; rm -f /opt/ok/copy",
        against: &[
            (Allow, Escapes(LISTED)),
            (AllowPath, Escapes(LISTED)),
            (DriftVolume, Held),
        ],
    },
    Technique {
        name: "link-in-listed-folder",
        about: "a link in a listed folder",
        needs: Nothing,
        script: "ln -s $T /opt/ok/link; /opt/ok/link; rm -f /opt/ok/link",
        against: ALL,
    },
    Technique {
        name: "up-from-listed-folder",
        about: "a path through a listed folder",
        needs: Nothing,
        script: "/opt/ok/../..$T",
        against: ALL,
    },
    Technique {
        name: "runc-named",
        about: "a program named runc, called `runc init`",
        needs: Nothing,
        script: "cp $T runc; evade exec ./runc runc init",
        against: ALL,
    },
    Technique {
        name: "runc-namespaced",
        about: "a sealed memfd as runc's, in a mount namespace of its own",
        needs: Admin,
        script: "unshare -m evade memfd-sealed runc_cloned:/proc/self/exe $T",
        against: ALL,
    },
    Technique {
        name: "runc-all-namespaces",
        about: "the same in new namespaces of every kind",
        needs: Admin,
        script: "unshare -m -p -f -u -i -n evade memfd-sealed runc_cloned:/proc/self/exe $T",
        against: ALL,
    },
    Technique {
        name: "runc-overlay-namespaced",
        about: "a detached overlay as runc's, in a mount namespace of its own",
        needs: Admin,
        script: "mkdir low; cp $T low/runc; unshare -m evade detached-overlay $D/low runc",
        against: ALL,
    },
    Technique {
        name: "chroot-listed",
        about: "a chroot in which the path is a listed one",
        needs: Nothing,
        script: "mkdir -p r/opt/ok; cp $T r/opt/ok/program; evade chroot $D/r /opt/ok/program",
        against: &[(Allow, Held), (AllowPath, Held), (DriftVolume, Held)],
    },
    Technique {
        name: "unshare",
        about: "a mount namespace of its own",
        needs: Admin,
        script: "unshare -m $T",
        against: ALL,
    },
    Technique {
        name: "nsenter",
        about: "the namespaces of another process, entered",
        needs: Admin,
        script: "nsenter -t 1 -m -u -i $T",
        against: ALL,
    },
    Technique {
        name: "script-of-listed",
        about: "a script that is not listed, its interpreter is",
        needs: Nothing,
        script: "printf \"#!/bin/busybox sh\\necho EVASION-MARK\\n\" >s; chmod +x s; ./s",
        against: &[
            (Allow, LAST_ONLY),
            (AllowPath, LAST_ONLY),
            (DriftVolume, LAST_ONLY),
        ],
    },
];
