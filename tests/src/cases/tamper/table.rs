//! The attempts, and what must become of each in which container.

use crate::tamper::Became::{self, Errno, Lost, Vain};

/// A container, by what it was given.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// As the table in docs/threat-model.md calls it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page"))]
    pub(super) title: &'static str,
    /// Of `ctr run`.
    pub(super) options: &'static [&'static str],
    /// Where it sees the machine's files, or would.
    pub(super) root: &'static str,
}

const HOST_FILES: &str = "type=bind,src=/,dst=/host,options=rbind:rw";

pub(super) const COLUMNS: &[Column] = &[
    Column {
        name: "plain",
        title: "nothing",
        options: &[],
        root: "/",
    },
    Column {
        name: "bpf",
        title: "`BPF`, `PERFMON`",
        options: &["--cap-add", "CAP_BPF", "--cap-add", "CAP_PERFMON"],
        root: "/",
    },
    Column {
        name: "privileged",
        title: "privileged",
        options: &["--privileged"],
        root: "/",
    },
    Column {
        name: "host-pid",
        title: "privileged, `hostPID`",
        options: &["--privileged", "--with-ns", "pid:/proc/1/ns/pid"],
        root: "/",
    },
    Column {
        name: "files",
        title: "the machine's files",
        options: &["--mount", HOST_FILES],
        root: "/host/",
    },
    Column {
        name: "privileged-files",
        title: "privileged, the machine's files",
        options: &["--privileged", "--mount", HOST_FILES],
        root: "/host/",
    },
];

/// One attempt.
pub(super) struct Attempt {
    pub(super) name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page"))]
    pub(super) about: &'static str,
    /// In the order of [`COLUMNS`].
    became: [Became; 6],
}

impl Attempt {
    pub(super) fn expected(&self, column: &Column) -> Became {
        let at = COLUMNS.iter().position(|one| one.name == column.name);
        self.became[at.unwrap_or_default()]
    }
}

const NONE: Became = Errno(libc::ENOENT);
const PERM: Became = Errno(libc::EPERM);
const NOT_ITS: Became = Errno(libc::ESRCH);
const NEVER: Became = Errno(libc::EOPNOTSUPP);
const NO_MOUNT: Became = Errno(libc::EINVAL);

/// What takes the pins away comes last.
pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "map-by-id",
        about: "open the map `containers` by its id, empty it",
        became: [PERM, PERM, Lost, Lost, PERM, Lost],
    },
    Attempt {
        name: "map-by-pin",
        about: "the same by its pin",
        became: [NONE, NONE, NONE, NONE, Lost, Lost],
    },
    Attempt {
        name: "program-by-id",
        about: "open programs by their ids",
        became: [PERM, PERM, Vain, Vain, PERM, Vain],
    },
    Attempt {
        name: "link-by-id",
        about: "open links by their ids, detach them",
        became: [PERM, PERM, NEVER, NEVER, PERM, NEVER],
    },
    Attempt {
        name: "link-by-pin",
        about: "the same by their pins",
        became: [NONE, NONE, NONE, NONE, NEVER, NEVER],
    },
    Attempt {
        name: "own-program",
        about: "attach a program that permits everything beside ours",
        became: [PERM, Vain, Vain, Vain, PERM, Vain],
    },
    Attempt {
        name: "own-bpffs",
        about: "mount a BPF file system, look for our pins in it",
        became: [PERM, PERM, NONE, NONE, PERM, NONE],
    },
    Attempt {
        name: "run-directory",
        about: "write below `/run/execblock`",
        became: [NONE, NONE, NONE, NONE, Vain, Vain],
    },
    Attempt {
        name: "kill",
        about: "kill the daemon",
        became: [NOT_ITS, NOT_ITS, NOT_ITS, Vain, NOT_ITS, NOT_ITS],
    },
    Attempt {
        name: "unmount",
        about: "unmount the BPF file system",
        became: [PERM, PERM, NO_MOUNT, NO_MOUNT, PERM, Vain],
    },
    Attempt {
        name: "unlink",
        about: "remove the pins of the links",
        became: [NONE, NONE, NONE, NONE, Lost, Lost],
    },
];

/// As the table has it.
pub(super) fn shown(became: Became) -> String {
    let errno = |errno| match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EINVAL => "EINVAL",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        _ => "another errno",
    };
    match became {
        Errno(number) => errno(number).to_owned(),
        Vain => "in vain".to_owned(),
        Lost => "**rules lost**".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threat-model.md");
        let page = std::fs::read_to_string(page).unwrap();
        let titles: Vec<_> = COLUMNS.iter().map(|column| column.title).collect();
        let mut lines = vec![
            format!("| attempt | {} |", titles.join(" | ")),
            format!("|{}", "---|".repeat(COLUMNS.len() + 1)),
        ];
        for attempt in ATTEMPTS {
            let cells = attempt.became.map(shown).join(" | ");
            lines.push(format!("| {} | {cells} |", attempt.about));
        }
        let table = lines.join("\n");
        assert!(page.contains(&table), "docs/threat-model.md lacks\n{table}");
    }
}
