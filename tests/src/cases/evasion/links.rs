//! Other names for the same file.

use super::technique::Expect::{Escapes, Held};
use super::technique::Needs::{Admin, Nothing};
use super::technique::Policy::{Name, Path};
use super::technique::{Expect, Policy, Technique};

const BOTH: &[(Policy, Expect)] = &[(Name, Held), (Path, Held)];
/// A file that has got another name is another file to a rule about names.
const RENAMED: &str = "neither its name nor its path is that of the rule any more";

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "symlink",
        about: "a symbolic link of another name",
        needs: Nothing,
        script: "ln -s $T link; ./link",
        against: BOTH,
    },
    Technique {
        name: "symlink-chain",
        about: "a chain of symbolic links",
        needs: Nothing,
        script: "ln -s $T l1; for i in 2 3 4 5 6 7 8 9; do ln -s l$((i-1)) l$i; done; ./l9",
        against: BOTH,
    },
    Technique {
        name: "hard-link",
        about: "a hard link of another name",
        needs: Nothing,
        script: "ln $T other; ./other",
        against: &[(Name, Escapes(RENAMED)), (Path, Escapes(RENAMED))],
    },
    Technique {
        name: "bind-mount",
        about: "the file mounted on another name",
        needs: Admin,
        script: "touch other; mount --bind $T other && ./other",
        against: &[(Name, Held), (Path, Escapes(RENAMED))],
    },
];
