//! Other names for the same file.

use super::technique::Expect::{Escapes, Held};
use super::technique::Needs::{Admin, Nothing, Userns};
use super::technique::Policy::{
    Allow, AllowPath, Directory, Drift, DriftName, DriftVolume, Glob, Name, Path,
};
use super::technique::Technique;
use super::technique::against::{BOTH, EVERY, NAME};

/// A file that has got another name is another file to a rule about names.
const RENAMED: &str = "neither its name nor its path is that of the rule any more";
/// A bind mount keeps the file's name and gives it another path.
const OTHER_PATH: &str = "the path that the container sees is another one";

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "symlink",
        about: "a symbolic link of another name",
        needs: Nothing,
        script: "ln -s $T link; ./link",
        against: EVERY,
    },
    Technique {
        name: "symlink-chain",
        about: "a chain of symbolic links",
        needs: Nothing,
        script: "ln -s $T l1; for i in 2 3 4 5 6 7 8 9; do ln -s l$((i-1)) l$i; done; ./l9",
        against: BOTH,
    },
    Technique {
        name: "symlink-folder",
        about: "a symbolic link to the program's folder",
        needs: Nothing,
        script: "ln -s ${T%/*} folder; ./folder/${T##*/}",
        against: BOTH,
    },
    Technique {
        name: "symlink-innocent",
        about: "a link whose name and folder are the rule's to another program of that rule",
        needs: Nothing,
        script: "ln -s $P ${T##*/}; ./${T##*/}",
        against: NAME,
    },
    Technique {
        name: "symlink-swapped",
        about: "a link that is exchanged for an innocent one all the time, 150 tries",
        needs: Nothing,
        script: "ln -s $T one; ln -s /bin/true two; evade swapped $D/one $D/two 150",
        against: &[(Name, Held), (Path, Held), (Allow, Held), (Drift, Held)],
    },
    Technique {
        name: "renamed-while-run",
        about: "the file changes its name all the time, 300 tries",
        needs: Nothing,
        script: "cp $T ${T##*/}; evade renamed $D/${T##*/} $D/other 300",
        against: NAME,
    },
    Technique {
        name: "hard-link",
        about: "a hard link of another name",
        needs: Nothing,
        script: "ln $T other; ./other",
        against: &[
            (Name, Escapes(RENAMED)),
            (Path, Escapes(RENAMED)),
            (Directory, Escapes(RENAMED)),
            (Glob, Escapes(RENAMED)),
            (Allow, Held),
            (AllowPath, Held),
            (Drift, Held),
            (DriftName, Held),
        ],
    },
    Technique {
        name: "rename",
        about: "the file gets another name",
        needs: Nothing,
        script: "cp $T copy; mv copy other; ./other",
        against: &[
            (Name, Escapes(RENAMED)),
            (Path, Escapes(RENAMED)),
            (Directory, Escapes(RENAMED)),
            (Glob, Escapes(RENAMED)),
            (Allow, Held),
            (DriftName, Held),
        ],
    },
    Technique {
        name: "bind-mount",
        about: "the file mounted on another name",
        needs: Admin,
        script: "touch other; mount --bind $T other && ./other",
        against: &[
            (Name, Held),
            (Glob, Held),
            (Path, Escapes(OTHER_PATH)),
            (Directory, Escapes(OTHER_PATH)),
            (Allow, Held),
            (AllowPath, Held),
        ],
    },
    Technique {
        name: "bind-pile",
        about: "forty mounts of the folder on itself",
        needs: Admin,
        script: "d=${T%/*}; for i in $(seq 40); do mount --bind $d $d || exit; done; $T; \
                 for i in $(seq 40); do umount -l $d; done",
        against: &[
            (Name, Held),
            (Path, Held),
            (Directory, Held),
            (AllowPath, Held),
        ],
    },
    Technique {
        name: "bind-folder",
        about: "the folder mounted on another one",
        needs: Admin,
        script: "mkdir other; mount --bind ${T%/*} other && ./other/${T##*/}",
        against: &[
            (Name, Held),
            (Glob, Held),
            (Path, Escapes(OTHER_PATH)),
            (Directory, Escapes(OTHER_PATH)),
            (Allow, Held),
            (AllowPath, Held),
        ],
    },
    Technique {
        name: "bind-root",
        about: "the whole root mounted elsewhere",
        needs: Admin,
        script: "mkdir other; mount --bind / other && ./other$T",
        against: &[(Name, Held), (Path, Escapes(OTHER_PATH)), (AllowPath, Held)],
    },
    Technique {
        name: "bind-over-listed",
        about: "a program that is not listed, mounted on a path that is",
        needs: Admin,
        script: "mount --bind $T /opt/ok/program; /opt/ok/program; umount /opt/ok/program",
        against: &[
            (
                Allow,
                Escapes("the path that the container sees is one of the list"),
            ),
            (
                AllowPath,
                Escapes("the path that the container sees is one of the list"),
            ),
        ],
    },
    Technique {
        name: "mount-over",
        about: "a tmpfs on the rule's folder, with a copy in it",
        needs: Admin,
        script: "cp $T copy; mkdir f; mount --bind f f; mount -t tmpfs t f; cp copy \
                 f/${T##*/}; f/${T##*/}",
        against: &[(Name, Held), (Glob, Held), (Allow, Held), (Drift, Held)],
    },
    Technique {
        name: "own-mount-namespace",
        about: "a mount namespace of its own",
        needs: Admin,
        script: "unshare -m $T",
        against: EVERY,
    },
    Technique {
        name: "own-tmpfs",
        about: "a copy on a tmpfs of its own, in a user namespace of its own",
        needs: Userns,
        script: "cp $T copy; mkdir f; unshare -Ur /bin/true || echo N/A no user \
                 namespaces; unshare -Urm sh -c \"mount -t tmpfs t f && cp copy f/other \
                 && f/other\"",
        against: &[
            (Name, Escapes(RENAMED)),
            (Drift, Held),
            (DriftName, Held),
            (Allow, Held),
        ],
    },
    Technique {
        name: "own-overlay",
        about: "an overlay whose lower layer has the program under another name",
        needs: Admin,
        script: "mkdir low empty m; cp $T low/other; mount -t overlay o -o \
                 lowerdir=$D/low:$D/empty m && m/other",
        against: &[
            (Name, Escapes(RENAMED)),
            (Drift, Held),
            (DriftName, Held),
            (DriftVolume, Held),
            (Allow, Held),
        ],
    },
    Technique {
        name: "own-overlay-userns",
        about: "the same in a user namespace of its own",
        needs: Userns,
        script: "mkdir low empty m; cp $T low/other; unshare -Urm sh -c \"mount -t \
                 overlay o -o lowerdir=$D/low:$D/empty m || echo N/A no overlays in user \
                 namespaces; m/other\"",
        against: &[
            (Name, Escapes(RENAMED)),
            (Drift, Held),
            (DriftName, Held),
            (Allow, Held),
        ],
    },
    Technique {
        name: "own-user-namespace",
        about: "a user namespace of its own",
        needs: Userns,
        script: "unshare -Ur $T",
        against: BOTH,
    },
    Technique {
        name: "other-mount-namespace",
        about: "the mount namespace of another process, entered",
        needs: Admin,
        script: "nsenter -t 1 -m $T",
        against: BOTH,
    },
    Technique {
        name: "detached-mount",
        about: "a copy of the mount that is attached nowhere",
        needs: Admin,
        script: "evade detached ${T%/*} ${T##*/}",
        against: &[
            (Name, Held),
            (Glob, Held),
            (Allow, Held),
            (AllowPath, Held),
            (Drift, Held),
        ],
    },
    Technique {
        name: "detached-overlay",
        about: "a detached overlay with the words `runc init`, as runc runs itself from",
        needs: Admin,
        script: "mkdir low; cp $T low/runc; evade detached-overlay $D/low runc",
        against: &[
            (Name, Escapes(RENAMED)),
            (Allow, Held),
            (AllowPath, Held),
            (Drift, Held),
            (DriftName, Held),
        ],
    },
];
