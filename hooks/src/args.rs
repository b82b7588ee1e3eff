//! The command line of an OCI runtime, as far as the wrapper acts on it. Pure.
//!
//! Both dialects are read at once, since what one understands the other refuses:
//!
//! - runc (urfave/cli v1 on Go's `flag`): `-name`, `--name`, `=value` or the next
//!   word, booleans with `=true`; flags of a verb also after its words.
//! - crun (glibc's argp): `--name=value` or the next word, unambiguous beginnings
//!   of long names, clusters of letters with an attached value (`-dbDIR`).
//!
//! Sources: runc `main.go`, `run.go`, `restore.go`, `delete.go`; crun `src/crun.c`,
//! `src/run.c`, `src/restore.c`, `src/delete.c`; argp of glibc.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

/// What is to be done to a container, as far as the wrapper cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Run the user's program in a created container.
    Start,
    /// Create and start.
    Run,
    /// Create and start from a checkpoint.
    Restore,
    /// Forget a container.
    Delete,
    /// Create one; its program does not run yet.
    Create,
    /// Whatever else, known or not, or nothing.
    Other,
}

/// A runtime's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation<'a> {
    /// What stands before the verb.
    pub globals: &'a [OsString],
    /// The verb.
    pub verb: Verb,
    /// First word after the verb that belongs to no flag.
    pub id: Option<&'a OsStr>,
    /// `--root`
    pub root: Option<&'a Path>,
    /// `--log`
    pub log: Option<&'a OsStr>,
    /// Whether `--log-format` is `json`.
    pub log_json: bool,
    /// `--bundle`
    pub bundle: Option<&'a Path>,
    /// crun's `--config`: another file than the bundle's `config.json`.
    pub config: Option<&'a Path>,
}

/// Flags by whether a value follows. Names of one letter are short ones.
struct Flags {
    valued: &'static [&'static str],
    plain: &'static [&'static str],
}

const GLOBAL: Flags = Flags {
    valued: &[
        "cgroup-manager",
        "criu",
        "log",
        "log-format",
        "log-level",
        "root",
        "rootless",
    ],
    plain: &[
        "?",
        "V",
        "debug",
        "h",
        "help",
        "systemd-cgroup",
        "usage",
        "v",
        "version",
    ],
};

const RUN: Flags = Flags {
    valued: &[
        "b",
        "bundle",
        "config",
        "console-socket",
        "f",
        "pid-file",
        "pidfd-socket",
        "preserve-fds",
    ],
    plain: &[
        "d",
        "detach",
        "h",
        "help",
        "keep",
        "no-new-keyring",
        "no-pivot",
        "no-subreaper",
    ],
};

const RESTORE: Flags = Flags {
    valued: &[
        "b",
        "bundle",
        "console-socket",
        "empty-ns",
        "image-path",
        "lsm-mount-context",
        "lsm-profile",
        "manage-cgroups-mode",
        "network-lock",
        "parent-path",
        "pid-file",
        "work-path",
    ],
    plain: &[
        "auto-dedup",
        "d",
        "detach",
        "ext-unix-sk",
        "file-locks",
        "h",
        "help",
        "lazy-pages",
        "no-pivot",
        "no-subreaper",
        "shell-job",
        "tcp-close",
        "tcp-established",
    ],
};

const DELETE: Flags = Flags {
    valued: &[],
    plain: &["f", "force", "h", "help", "r", "regex"],
};

const START: Flags = Flags {
    valued: &[],
    plain: &["h", "help"],
};

/// All verbs of both, to tell one from the value of a flag that nobody knows.
const VERBS: [&str; 22] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "help",
    "init",
    "kill",
    "list",
    "mounts",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
    "version",
    "h",
];

impl<'a> Invocation<'a> {
    /// Reads the words after the program's name.
    #[must_use]
    pub fn parse(args: &'a [OsString]) -> Self {
        let mut found = Self {
            globals: args,
            verb: Verb::Other,
            id: None,
            root: None,
            log: None,
            log_json: false,
            bundle: None,
            config: None,
        };
        let mut scan = Scan::new(args, &GLOBAL);
        let verb = loop {
            match scan.next() {
                Some(Item::Flag("root", value)) => found.root = Some(Path::new(value)),
                Some(Item::Flag("log", value)) => found.log = Some(value),
                Some(Item::Flag("log-format", value)) => found.log_json = value == "json",
                Some(Item::Flag(..)) => {}
                Some(Item::Word(verb)) => break verb,
                None => return found,
            }
        };
        found.globals = &args[..scan.at - 1];
        let (verb, flags) = match verb.as_bytes() {
            b"start" => (Verb::Start, &START),
            b"run" => (Verb::Run, &RUN),
            b"restore" => (Verb::Restore, &RESTORE),
            b"delete" => (Verb::Delete, &DELETE),
            b"create" => (Verb::Create, &RUN),
            _ => return found,
        };
        found.verb = verb;
        for item in Scan::new(&args[scan.at..], flags) {
            match item {
                Item::Flag("b" | "bundle", value) => found.bundle = Some(Path::new(value)),
                Item::Flag("f" | "config", value) => found.config = Some(Path::new(value)),
                Item::Flag(..) => {}
                Item::Word(word) => {
                    found.id.get_or_insert(word);
                }
            }
        }
        found
    }
}

enum Item<'a> {
    /// A flag's full name, and its value (empty where it takes none).
    Flag(&'static str, &'a OsStr),
    /// What belongs to no flag.
    Word(&'a OsStr),
}

struct Scan<'a> {
    args: &'a [OsString],
    /// Index of the next word.
    at: usize,
    flags: &'static Flags,
    /// After `--`.
    only_words: bool,
    /// Letters of a cluster that are still to come.
    letters: &'a [u8],
}

impl<'a> Scan<'a> {
    fn new(args: &'a [OsString], flags: &'static Flags) -> Self {
        Self {
            args,
            at: 0,
            flags,
            only_words: false,
            letters: &[],
        }
    }

    fn word(&mut self) -> Option<&'a OsStr> {
        let word = self.args.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn flag(&mut self, name: &'static str, attached: Option<&'a [u8]>) -> Item<'a> {
        let valued = self.flags.valued.contains(&name);
        let value = match attached {
            Some(value) => Some(OsStr::from_bytes(value)),
            None if valued => self.word(),
            None => None,
        };
        Item::Flag(name, value.unwrap_or_default())
    }

    /// A flag that nobody knows may be followed by its value.
    fn skip_value(&mut self) {
        let value = self.args.get(self.at).is_some_and(|next| {
            !next.as_bytes().starts_with(b"-") && !VERBS.iter().any(|verb| next == *verb)
        });
        if value && self.args.len() > self.at + 1 {
            self.at += 1;
        }
    }

    /// One letter of `-abc`, where what follows may be its value.
    fn letter(&mut self) -> Option<Item<'a>> {
        let (letter, rest) = self.letters.split_first()?;
        let Some(name) = self.flags.exact(std::slice::from_ref(letter)) else {
            self.letters = &[];
            return None;
        };
        if self.flags.valued.contains(&name) {
            self.letters = &[];
            return Some(self.flag(name, Some(rest).filter(|rest| !rest.is_empty())));
        }
        self.letters = rest;
        Some(self.flag(name, None))
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            if let Some(item) = self.letter() {
                return Some(item);
            }
            let word = self.word()?;
            let bytes = word.as_bytes();
            if self.only_words || !bytes.starts_with(b"-") || bytes == b"-" {
                return Some(Item::Word(word));
            }
            if bytes == b"--" {
                self.only_words = true;
                continue;
            }
            let long = bytes.starts_with(b"--");
            let body = &bytes[if long { 2 } else { 1 }..];
            let equals = body.iter().position(|byte| *byte == b'=');
            let name = &body[..equals.unwrap_or(body.len())];
            let attached = equals.map(|at| &body[at + 1..]);
            let known = self.flags.exact(name).or_else(|| {
                let beginning = long.then(|| self.flags.beginning(name));
                beginning.flatten()
            });
            if let Some(name) = known {
                return Some(self.flag(name, attached));
            }
            let cluster = body.first().map(std::slice::from_ref);
            if !long && cluster.is_some_and(|letter| self.flags.exact(letter).is_some()) {
                self.letters = body;
            } else if attached.is_none() {
                self.skip_value();
            }
        }
    }
}

impl Flags {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.valued.iter().chain(self.plain).copied()
    }

    fn exact(&self, name: &[u8]) -> Option<&'static str> {
        self.all().find(|known| known.as_bytes() == name)
    }

    /// The one long name that begins so.
    fn beginning(&self, name: &[u8]) -> Option<&'static str> {
        let mut long = self
            .all()
            .filter(|known| known.len() > 1 && known.as_bytes().starts_with(name));
        long.next().filter(|_| long.next().is_none())
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
