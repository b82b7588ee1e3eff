//! Copies, files without a name, and code that no file is behind.

use super::technique::Expect::{Escapes, Held};
use super::technique::Needs::Nothing;
use super::technique::Policy::{Name, Path};
use super::technique::Technique;

const COPIED: &str = "a copy has neither the name nor the path of the rule";
const NO_FILE: &str = "nothing is executed: code is read into memory";

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "copy",
        about: "a copy under another name",
        needs: Nothing,
        script: "cp $T other; ./other",
        against: &[(Name, Escapes(COPIED)), (Path, Escapes(COPIED))],
    },
    Technique {
        name: "copy-same-name",
        about: "a copy of the same name in another folder",
        needs: Nothing,
        script: "cp $T whoami; ./whoami",
        against: &[(Name, Held), (Path, Escapes(COPIED))],
    },
    Technique {
        name: "memfd",
        about: "a copy in a memfd",
        needs: Nothing,
        script: "evade memfd other $T",
        against: &[(Name, Escapes(COPIED)), (Path, Escapes(COPIED))],
    },
    Technique {
        name: "read-and-jump",
        about: "code read into anonymous memory, and jumped to",
        needs: Nothing,
        script: "evade read-and-jump $T",
        against: &[(Name, Escapes(NO_FILE)), (Path, Escapes(NO_FILE))],
    },
];
