//! The dynamic loader, which maps a program without executing it.

use super::technique::Expect::{self, Held};
use super::technique::Needs::Nothing;
use super::technique::Policy::{self, Allow, Drift, DriftName, Glob, Name, Path};
use super::technique::Technique;
use super::technique::against::LOADED;

/// No exec: a hook for mappings sees it.
const MAPPED: &[(Policy, Expect)] = &[(Name, Held), (Path, Held), (Glob, Held)];
const DROPPED: &[(Policy, Expect)] = &[(Drift, Held), (DriftName, Held)];

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "loader",
        about: "the loader is asked to run the program",
        needs: Nothing,
        script: "/lib64/ld-linux-x86-64.so.2 $P",
        against: LOADED,
    },
    Technique {
        name: "loader-library-path",
        about: "the same with --library-path",
        needs: Nothing,
        script: "/lib64/ld-linux-x86-64.so.2 --library-path /lib/x86_64-linux-gnu $P",
        against: LOADED,
    },
    Technique {
        name: "loader-inhibit-cache",
        about: "the same with --inhibit-cache",
        needs: Nothing,
        script: "/lib64/ld-linux-x86-64.so.2 --inhibit-cache $P",
        against: LOADED,
    },
    Technique {
        name: "loader-argv0",
        about: "the same with --argv0",
        needs: Nothing,
        script: "/lib64/ld-linux-x86-64.so.2 --argv0 innocent $P",
        against: LOADED,
    },
    Technique {
        name: "loader-preload",
        about: "the same with --preload",
        needs: Nothing,
        script: "/lib64/ld-linux-x86-64.so.2 --preload /lib/x86_64-linux-gnu/libc.so.6 $P",
        against: LOADED,
    },
    Technique {
        name: "loader-many-options",
        about: "the same with several options",
        needs: Nothing,
        script: "/lib64/ld-linux-x86-64.so.2 --inhibit-cache --library-path \
                 /lib:/lib/x86_64-linux-gnu --argv0 x --inhibit-rpath /x $P",
        against: LOADED,
    },
    Technique {
        name: "loader-relative",
        about: "the same with a relative path",
        needs: Nothing,
        script: "cd ${P%/*}; /lib64/ld-linux-x86-64.so.2 ./${P##*/}",
        against: LOADED,
    },
    Technique {
        name: "loader-link",
        about: "the same with a link to the program",
        needs: Nothing,
        script: "ln -s $P link; /lib64/ld-linux-x86-64.so.2 ./link",
        against: MAPPED,
    },
    Technique {
        name: "loader-by-link",
        about: "a link to the loader",
        needs: Nothing,
        script: "ln -s /lib64/ld-linux-x86-64.so.2 innocent; ./innocent $P",
        against: LOADED,
    },
    Technique {
        name: "loader-copy",
        about: "a copy of the loader under another name",
        needs: Nothing,
        script: "cp /lib64/ld-linux-x86-64.so.2 innocent; ./innocent $P",
        against: MAPPED,
    },
    Technique {
        name: "loader-by-descriptor",
        about: "the loader by its descriptor",
        needs: Nothing,
        script: "evade exec /lib64/ld-linux-x86-64.so.2 ld $P",
        against: LOADED,
    },
    Technique {
        name: "interpreter",
        about: "an image whose loader is the program",
        needs: Nothing,
        script: "evade with-interpreter image $T; ./image",
        against: &[(Name, Held), (Path, Held), (Drift, Held), (Allow, Held)],
    },
    Technique {
        name: "map",
        about: "the file is mapped executable and jumped to",
        needs: Nothing,
        script: "evade map $T",
        against: &[(Name, Held), (Path, Held), (Drift, Held)],
    },
    Technique {
        name: "map-then-protect",
        about: "the file is mapped, and made executable later",
        needs: Nothing,
        script: "evade map-then-protect $T",
        against: &[(Name, Held), (Path, Held), (Drift, Held)],
    },
    Technique {
        name: "map-readable",
        about: "the file is mapped readable, in a personality in which that is executable",
        needs: Nothing,
        script: "evade map-readable $T",
        against: &[(Name, Held), (Path, Held), (Drift, Held)],
    },
    Technique {
        name: "library-preloaded",
        about: "LD_PRELOAD of a dropped library",
        needs: Nothing,
        script: "cp /opt/lib/marker.so x.so; LD_PRELOAD=$D/x.so loads",
        against: DROPPED,
    },
    Technique {
        name: "library-audit",
        about: "LD_AUDIT of a dropped library",
        needs: Nothing,
        script: "cp /opt/lib/marker.so x.so; LD_AUDIT=$D/x.so loads",
        against: DROPPED,
    },
    Technique {
        name: "library-loaded",
        about: "dlopen of a dropped library",
        needs: Nothing,
        script: "cp /opt/lib/marker.so x.so; loads $D/x.so",
        against: DROPPED,
    },
    Technique {
        name: "library-path",
        about: "a dropped library before the system's, by LD_LIBRARY_PATH",
        needs: Nothing,
        script: "cp /opt/lib/marker.so innocent.so; LD_LIBRARY_PATH=$D loads innocent.so",
        against: DROPPED,
    },
    Technique {
        name: "library-denied",
        about: "dlopen of a library that a glob means",
        needs: Nothing,
        script: "cp /opt/lib/marker.so lib.evil; loads $D/lib.evil",
        against: &[(Glob, Held)],
    },
];
