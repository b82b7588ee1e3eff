//! What a policy says of one program, from facts about it. Pure.
//!
//! This is the kernel side's work (plugin-ebpf/src/lookup.rs) done on [`Rules`] as
//! they are written, so that a rule can be named. The property test below holds
//! it against the compiled entries, followed as the kernel side follows them.

use plugin_common::{Container, Findings, RuleValue, Source, Verdict, decide};

use crate::{
    annotation::Rule,
    policy::{Held, List, Rules, Window},
};

/// Where a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// In the image: on the container's root file system, not on its upper layer.
    Image,
    /// On the upper layer: written, or copied up by a change.
    Upper,
    /// On another file system than the root, by a mount of the container's.
    Elsewhere,
    /// Nowhere: it has no link.
    Unlinked,
    /// That could not be told.
    Unknown,
}

/// A file, as the hooks see it.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its own name. Where it is mounted as a file on another, that is not the
    /// last component of its path.
    pub name: &'a [u8],
    /// Its path in its mount namespace, absolute and without links.
    pub path: &'a [u8],
    /// Where it lies.
    pub whence: Whence,
}

/// What a hook asks about, by which hook.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// The syscall (`kprobe`): the string alone.
    Syscall {
        /// As it was given to exec.
        requested: &'a [u8],
    },
    /// `bprm_check` (`lsm`, `fmod_ret`): one level of interpreters.
    Level {
        /// As it was given to exec, or as it stands behind `#!`.
        requested: &'a [u8],
        /// The file behind it.
        file: File<'a>,
    },
    /// `mmap_file` (`lsm`, `fmod_ret`): a file mapped executable.
    Mapped {
        /// The file.
        file: File<'a>,
    },
    /// `sched_process_exec` (`signal`): the new image.
    Image {
        /// As it was given to exec; and the last interpreter, as it was asked for.
        requested: &'a [&'a [u8]],
        /// The file that is executed in the end.
        file: File<'a>,
        /// Its arguments.
        arguments: &'a [&'a [u8]],
        /// Whether what a dynamic loader is asked to run counts too: where no hook
        /// sees it mapped.
        loader: bool,
    },
}

/// A rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The id that it is counted under.
    pub id: u32,
    /// What it matched.
    pub source: Source,
}

/// What was found about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'r> {
    /// The rule that denies it.
    pub denied: Option<Match<'r>>,
    /// The item of the allow-list that admits it.
    pub listed: Option<Match<'r>>,
    /// There is an allow-list, it is asked, and no item of it holds for the file.
    pub unlisted: bool,
    /// It did not come with the image, and no item of the allow-list that is a
    /// path or a directory admits it. What can't be told counts, as it does in
    /// the kernel.
    pub drifted: bool,
}

impl Found<'_> {
    /// The verdict in a container of this mode and drift.
    #[must_use]
    pub fn verdict(&self, container: &Container) -> Verdict {
        let denied = self.denied.as_ref();
        decide(
            container,
            Findings {
                denied: denied.map_or(0, |found| found.id),
                source: denied.map_or(0, |found| found.source as u32),
                unlisted: self.unlisted.into(),
                drifted: self.drifted.into(),
            },
        )
    }
}

/// What `rules` say at `now` (nanoseconds of `CLOCK_BOOTTIME`).
#[must_use]
pub fn find<'r>(rules: &'r Rules, asked: &Asked<'_>, now: u64) -> Found<'r> {
    let file = asked.file();
    let listed = file.and_then(|file| listed(&rules.allow, file, now));
    let asks_list = matches!(asked, Asked::Level { .. } | Asked::Image { .. });
    Found {
        denied: denied(&rules.deny, asked, now),
        listed,
        unlisted: asks_list && !rules.allow.is_empty() && listed.is_none(),
        drifted: file.is_some_and(|file| drifted(&rules.allow, file, now)),
    }
}

impl<'a> Asked<'a> {
    fn file(&self) -> Option<File<'a>> {
        match *self {
            Self::Syscall { .. } => None,
            Self::Level { file, .. } | Self::Mapped { file } | Self::Image { file, .. } => {
                Some(file)
            }
        }
    }

    /// Where the file lies; `None` where the hook has no file.
    #[must_use]
    pub fn whence(&self) -> Option<Whence> {
        self.file().map(|file| file.whence)
    }

    /// By what rules recognise it, in the kernel side's order.
    fn probes(&self) -> Vec<(Probe<'a>, Source)> {
        let file = |file: File<'a>, source| {
            [
                (Probe::Name(file.name), source),
                (Probe::Path(file.path), source),
                (Probe::Directory(file.path), source),
            ]
        };
        match *self {
            Self::Syscall { requested } => string(requested, Source::Requested).into(),
            Self::Level {
                requested,
                file: resolved,
            } => string(requested, Source::Requested)
                .into_iter()
                .chain(file(resolved, Source::Resolved))
                .collect(),
            Self::Mapped { file: mapped } => file(mapped, Source::Mapped).into(),
            Self::Image {
                requested,
                file: resolved,
                arguments,
                loader,
            } => {
                let requested = requested.iter();
                let own = arguments.first().map(|own| applet(own));
                let program = program(resolved.name, arguments)
                    .filter(|(_, source)| loader || *source != Source::Loaded);
                requested
                    .flat_map(|text| string(text, Source::Requested))
                    .chain(file(resolved, Source::Resolved))
                    .chain(own.map(|own| (Probe::Name(own), Source::Applet)))
                    .chain(
                        program
                            .into_iter()
                            .flat_map(|(text, source)| string(text, source)),
                    )
                    .collect()
            }
        }
    }
}

/// One question to a list.
#[derive(Clone, Copy, Debug)]
enum Probe<'a> {
    Name(&'a [u8]),
    Path(&'a [u8]),
    Directory(&'a [u8]),
}

/// A string that stands for a program is compared by its last component, and
/// whole.
fn string(text: &[u8], source: Source) -> [(Probe<'_>, Source); 2] {
    [
        (Probe::Name(last_component(text)), source),
        (Probe::Path(text), source),
    ]
}

fn denied<'r>(list: &'r List, asked: &Asked<'_>, now: u64) -> Option<Match<'r>> {
    asked.probes().into_iter().find_map(|(probe, source)| {
        let (rule, held) = match probe {
            Probe::Name(text) => name(list, text, now),
            Probe::Path(text) => path(list, text, now),
            Probe::Directory(text) => directory(list, text, now),
        }?;
        Some(Match {
            rule,
            id: held.id,
            source,
        })
    })
}

fn listed<'r>(list: &'r List, file: File<'_>, now: u64) -> Option<Match<'r>> {
    name(list, file.name, now)
        .or_else(|| path(list, file.path, now))
        .or_else(|| directory(list, file.path, now))
        .map(|(rule, held)| Match {
            rule,
            id: held.id,
            source: Source::Resolved,
        })
}

fn drifted(allow: &List, file: File<'_>, now: u64) -> bool {
    match file.whence {
        Whence::Image => false,
        Whence::Elsewhere => {
            path(allow, file.path, now).is_none() && directory(allow, file.path, now).is_none()
        }
        Whence::Upper | Whence::Unlinked | Whence::Unknown => true,
    }
}

/// The rule for a name: the name itself, else the longest beginning, else the
/// longest end.
fn name<'r>(list: &'r List, name: &[u8], now: u64) -> Option<(&'r Rule, Held)> {
    if name.is_empty() {
        return None;
    }
    exact(
        list,
        now,
        |rule| matches!(rule, Rule::Name(text) if text.as_bytes() == name),
    )
    .or_else(|| {
        longest(list, now, |rule| match rule {
            Rule::Prefix(text) if name.starts_with(text.as_bytes()) => Some(text.len()),
            _ => None,
        })
    })
    .or_else(|| {
        longest(list, now, |rule| match rule {
            Rule::Suffix(text) if name.ends_with(text.as_bytes()) => Some(text.len()),
            _ => None,
        })
    })
}

fn path<'r>(list: &'r List, path: &[u8], now: u64) -> Option<(&'r Rule, Held)> {
    exact(
        list,
        now,
        |rule| matches!(rule, Rule::Path(text) if text.as_bytes() == path),
    )
}

/// The rule for a directory above the file: the outermost that holds.
fn directory<'r>(list: &'r List, path: &[u8], now: u64) -> Option<(&'r Rule, Held)> {
    let holding = list.iter().filter(|(rule, held)| {
        matches!(rule, Rule::Directory(text) if path.starts_with(text.as_bytes()))
            && holds(held.window, now)
    });
    holding
        .min_by_key(|(rule, _)| match rule {
            Rule::Directory(text) => text.len(),
            _ => usize::MAX,
        })
        .map(|(rule, held)| (rule, *held))
}

fn exact(list: &List, now: u64, is: impl Fn(&Rule) -> bool) -> Option<(&Rule, Held)> {
    let mut those = list.iter().filter(|(rule, _)| is(rule));
    let (rule, held) = those.next()?;
    holds(held.window, now).then_some((rule, *held))
}

/// The longest glob, which holds whenever a shorter one that matches does: see
/// `Policy::compile`.
fn longest(
    list: &List,
    now: u64,
    length: impl Fn(&Rule) -> Option<usize>,
) -> Option<(&Rule, Held)> {
    let those = list
        .iter()
        .filter_map(|(rule, held)| length(rule).map(|length| (length, rule, *held)));
    let (_, rule, held) = those.clone().max_by_key(|(length, ..)| *length)?;
    let window = those.fold(held.window, |all, (_, _, held)| all.or(held.window));
    holds(window, now).then_some((rule, held))
}

fn holds(window: Window, now: u64) -> bool {
    RuleValue {
        from: window.from,
        until: window.until,
        ..RuleValue::NONE
    }
    .holds(now)
}

/// What is behind the last slash.
#[must_use]
pub fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Names of multi-call binaries begin so: they take from their arguments which
/// program to be.
const MULTI_CALL: [&[u8]; 3] = [b"busybox", b"toybox", b"coreutils"];

/// Names of dynamic loaders begin so. musl's C library is its loader too.
const LOADERS: [&[u8]; 4] = [b"ld-", b"ld.", b"ld64.", b"libc."];

/// Options of GNU's single binary whose value behind the `=` is a program.
const PROGRAM: [&[u8]; 2] = [b"--coreutils-prog=", b"--coreutils-prog-shebang="];

/// Options of the loader whose value is the next argument. Sources: glibc
/// `elf/rtld.c`, musl `ldso/dynlink.c`.
const WITH_VALUE: [&[u8]; 7] = [
    b"--library-path",
    b"--preload",
    b"--audit",
    b"--argv0",
    b"--inhibit-rpath",
    b"--glibc-hwcaps-prepend",
    b"--glibc-hwcaps-mask",
];

/// The program that arguments ask for, of an executable whose file has this name:
/// the applet of a multi-call binary, which goes by its first argument, or what a
/// dynamic loader is to run, which does not.
#[must_use]
pub fn program<'a>(name: &[u8], arguments: &[&'a [u8]]) -> Option<(&'a [u8], Source)> {
    let begins = |name: &[u8], with: &[&[u8]]| with.iter().any(|with| name.starts_with(with));
    let value = |word: &'a [u8]| PROGRAM.iter().find_map(|option| word.strip_prefix(*option));
    let (own, words) = arguments.split_first()?;
    if begins(applet(own), &MULTI_CALL) {
        // `busybox busybox whoami`
        let mut words = words
            .iter()
            .filter(|word| !begins(last_component(word), &MULTI_CALL));
        let word = words.next()?;
        return Some((value(word).unwrap_or(word), Source::Applet));
    }
    // GNU's single binary takes it under any name that is none of its own.
    if let Some(program) = words.first().and_then(|word| value(word)) {
        return Some((program, Source::Applet));
    }
    if !begins(name, &LOADERS) {
        return None;
    }
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with(b"-") {
            return Some((word, Source::Loaded));
        }
        if WITH_VALUE.contains(word) {
            words.next();
        }
    }
    None
}

/// The applet that a first argument means: its last component, without a login
/// shell's dash before the whole.
#[must_use]
pub fn applet(argument: &[u8]) -> &[u8] {
    last_component(argument.strip_prefix(b"-").unwrap_or(argument))
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
