//! Rules in, entries of the map `rules` out. Pure.
//!
//! The same rules give the same digest and the same entries, whoever compiles
//! them, so that containers share a policy by its content.

use std::collections::{BTreeMap, BTreeSet};

use plugin_common::{
    GlobKey, KIND_ALLOW_DIR, KIND_ALLOW_NAME, KIND_ALLOW_PATH, KIND_ALLOW_PREFIX,
    KIND_ALLOW_SUFFIX, KIND_DIR, KIND_NAME, KIND_PATH, KIND_PREFIX, KIND_REQUESTED, KIND_SUFFIX,
    NAME_MAX, RULE_DRIFT, RULE_FIRST, RULE_MOVED, RULE_UNLISTED, RULE_UNREADABLE, RuleKey,
    RuleValue,
};
use sha2::{Digest as _, Sha256};

use crate::annotation::Rule;

/// When a rule holds, in nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Its beginning; 0 where it has always held.
    pub from: u64,
    /// Its end; 0 where it has none.
    pub until: u64,
}

impl Window {
    /// Holds whatever the time.
    pub const ALWAYS: Self = Self { from: 0, until: 0 };

    /// Holds whenever one of the two does, and between them: where two rules
    /// meet in one, that fails closed.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            until: match (self.until, other.until) {
                (0, _) | (_, 0) => 0,
                (one, two) => one.max(two),
            },
        }
    }
}

/// A rule as it goes into a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What hits are counted under: [`rule_id`] of the rule as the user wrote it.
    pub id: u32,
    /// When it holds.
    pub window: Window,
}

/// Rules of one list, each with what holds for it.
pub type List = BTreeMap<Rule, Held>;

/// The rules of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What may not be executed.
    pub deny: List,
    /// Where it is not empty, what alone may be executed.
    pub allow: List,
}

/// A list whose rules hold whatever the time.
#[must_use]
pub fn always(rules: &BTreeSet<Rule>) -> List {
    let held = |rule: &Rule| Held {
        id: rule_id(rule),
        window: Window::ALWAYS,
    };
    rules
        .iter()
        .map(|rule| (rule.clone(), held(rule)))
        .collect()
}

/// The id of a rule, made from its text: the same in every policy, so that what
/// was counted stays right when a policy changes. [`RULE_FIRST`] or greater: the
/// ids before it are reserved. Of two rules with the same id (one chance in four thousand million) both hold, and are counted as
/// one.
#[must_use]
pub fn rule_id(rule: &Rule) -> u32 {
    first_word(&Sha256::digest(rule.to_string())).max(RULE_FIRST)
}

/// What a reserved id stands for, as a report says it; `None` for a rule's own.
#[must_use]
pub const fn reserved(rule: u32) -> Option<&'static str> {
    Some(match rule {
        RULE_UNLISTED => "not in the allow-list",
        RULE_DRIFT => "did not come with the image",
        RULE_UNREADABLE => "too deep or too long to be looked at",
        RULE_MOVED => "left its cgroup",
        _ => return None,
    })
}

/// The reserved ids.
pub const RESERVED: [u32; 4] = [RULE_UNLISTED, RULE_DRIFT, RULE_UNREADABLE, RULE_MOVED];

fn first_word(digest: &[u8]) -> u32 {
    let bytes = digest.iter().take(4).rev();
    bytes.fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// A policy's digest as a record has it.
#[must_use]
pub fn hex(digest: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*digest))
}

/// Rules ready for the kernel, under no id yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// First half of the SHA-256 of the canonical rules.
    pub digest: [u8; 16],
    /// Bit `1 << KIND_…` for each kind of entry.
    pub kinds: u32,
    edges: BTreeMap<Edge, RuleValue>,
    globs: BTreeMap<Glob, RuleValue>,
}

/// Where an edge of the automata starts, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    kind: u32,
    node: u32,
    name: Vec<u8>,
}

/// A name with a `*` at one end: what is before it, or in reverse what is behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Glob {
    kind: u32,
    text: Vec<u8>,
}

/// The kinds of the rules of a list.
struct Kinds {
    name: u32,
    prefix: u32,
    suffix: u32,
    path: u32,
    /// Only what is denied is denied by its requested path too.
    requested: Option<u32>,
    dir: u32,
}

const DENY: Kinds = Kinds {
    name: KIND_NAME,
    prefix: KIND_PREFIX,
    suffix: KIND_SUFFIX,
    path: KIND_PATH,
    requested: Some(KIND_REQUESTED),
    dir: KIND_DIR,
};

const ALLOW: Kinds = Kinds {
    name: KIND_ALLOW_NAME,
    prefix: KIND_ALLOW_PREFIX,
    suffix: KIND_ALLOW_SUFFIX,
    path: KIND_ALLOW_PATH,
    requested: None,
    dir: KIND_ALLOW_DIR,
};

impl Policy {
    /// Compiles `rules`.
    #[must_use]
    pub fn compile(rules: &Rules) -> Self {
        let mut builder = Builder::default();
        let mut digest = Sha256::new();
        for (list, kinds) in [(&rules.deny, DENY), (&rules.allow, ALLOW)] {
            for (rule, held) in list {
                digest.update(rule.to_string());
                digest.update([0]);
                digest.update(held.id.to_le_bytes());
                digest.update(held.window.from.to_le_bytes());
                digest.update(held.window.until.to_le_bytes());
                builder.rule(rule, &kinds, *held);
            }
            // Between the lists: what is denied in one is allowed in the other.
            digest.update([0]);
        }
        builder.widen_globs();
        let mut half = [0; 16];
        half.copy_from_slice(&digest.finalize()[..16]);
        Self {
            digest: half,
            kinds: builder.kinds,
            edges: builder.edges,
            globs: builder.globs,
        }
    }

    /// The id it would like to have: never 0.
    #[must_use]
    pub fn preferred_id(&self) -> u32 {
        first_word(&self.digest).max(1)
    }

    /// Its entries of the map `rules` under the id `policy`.
    pub fn entries(&self, policy: u32) -> impl Iterator<Item = (RuleKey, RuleValue)> {
        self.edges.iter().filter_map(move |(edge, value)| {
            // Rules are within NAME_MAX by construction, so none is left out.
            RuleKey::new(policy, edge.node, edge.kind, &edge.name).map(|key| (key, *value))
        })
    }

    /// Its entries of the map `globs` under the id `policy`.
    pub fn glob_entries(&self, policy: u32) -> impl Iterator<Item = (GlobKey, RuleValue)> {
        self.globs.iter().filter_map(move |(glob, value)| {
            // Globs are within GLOB_MAX by construction, so none is left out.
            GlobKey::new(policy, glob.kind, &glob.text).map(|key| (key, *value))
        })
    }

    /// Number of its entries in both maps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edges.len() + self.globs.len()
    }

    /// Whether it has no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The pieces that the kernel side compares: full ones, then a shorter (maybe
/// empty) one that ends the string.
fn pieces(text: &[u8]) -> Vec<&[u8]> {
    let mut pieces: Vec<&[u8]> = text.chunks(NAME_MAX).collect();
    if text.len().is_multiple_of(NAME_MAX) {
        pieces.push(&[]);
    }
    pieces
}

#[derive(Default)]
struct Builder {
    kinds: u32,
    edges: BTreeMap<Edge, RuleValue>,
    globs: BTreeMap<Glob, RuleValue>,
    nodes: u32,
}

impl Builder {
    fn rule(&mut self, rule: &Rule, kinds: &Kinds, held: Held) {
        match rule {
            Rule::Name(name) => self.way(kinds.name, [name.as_bytes()], held),
            Rule::Prefix(text) => self.glob(kinds.prefix, text.bytes().collect(), held),
            Rule::Suffix(text) => self.glob(kinds.suffix, text.bytes().rev().collect(), held),
            Rule::Path(path) => {
                if let Some(kind) = kinds.requested {
                    self.way(kind, pieces(path.as_bytes()), held);
                }
                // From the last component to the first; the empty one before the
                // leading slash is the root.
                let components = path.trim_start_matches('/').rsplit('/');
                self.way(kinds.path, components.map(str::as_bytes), held);
            }
            Rule::Directory(path) => {
                // From the first component to the last; `/` is one empty one.
                let components = path.trim_matches('/').split('/');
                self.way(kinds.dir, components.map(str::as_bytes), held);
            }
        }
    }

    /// Adds a way through the automaton of `kind` that ends in the rule. Ways
    /// share the edges that they have in common.
    fn way<'a>(&mut self, kind: u32, names: impl IntoIterator<Item = &'a [u8]>, held: Held) {
        self.kinds |= 1 << kind;
        let mut node = 0;
        let mut names = names.into_iter().peekable();
        while let Some(name) = names.next() {
            let edge = Edge {
                kind,
                node,
                name: name.to_vec(),
            };
            let value = self.edges.entry(edge).or_default();
            if names.peek().is_none() {
                held.end(value);
            } else {
                if value.next == 0 {
                    self.nodes += 1;
                    value.next = self.nodes;
                }
                node = value.next;
            }
        }
    }

    fn glob(&mut self, kind: u32, text: Vec<u8>, held: Held) {
        self.kinds |= 1 << kind;
        held.end(self.globs.entry(Glob { kind, text }).or_default());
    }

    /// The kernel finds the longest one. A name that it matches is matched by
    /// the shorter ones too, so it holds whenever one of these does.
    fn widen_globs(&mut self) {
        let narrow = self.globs.clone();
        for (glob, value) in &mut self.globs {
            let window = (1..=glob.text.len())
                .filter_map(|len| {
                    let text = glob.text.get(..len)?.to_vec();
                    let kind = glob.kind;
                    narrow.get(&Glob { kind, text })
                })
                .fold(Window::of(value), |all, shorter| {
                    all.or(Window::of(shorter))
                });
            value.from = window.from;
            value.until = window.until;
        }
    }
}

impl Window {
    fn of(value: &RuleValue) -> Self {
        Self {
            from: value.from,
            until: value.until,
        }
    }
}

impl Held {
    /// The rule is complete with this entry.
    fn end(self, value: &mut RuleValue) {
        value.rule = self.id;
        value.from = self.window.from;
        value.until = self.window.until;
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
