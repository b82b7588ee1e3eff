//! The text of profiles and of the node's `config.toml`. Pure.
//!
//! A list is an array of items, or the text that an annotation would have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny},
};
use toml::Spanned;

use crate::{
    annotation::{Drift, Mode, Problem, Rule, of_items, of_profiles, parse_list, parse_profiles},
    merge::Layer,
};

/// A profile: rules under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What it is for, in its author's words.
    pub description: String,
    /// What it says.
    pub layer: Layer,
}

/// The node's `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its defaults, in their order.
    pub defaults: Vec<NodeDefault>,
}

/// What holds for containers of this node whatever their annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDefault {
    /// Its name, for messages.
    pub name: String,
    /// The containers that it is for.
    pub containers: Match,
    /// Those that it is not for all the same.
    pub exempt: Vec<Match>,
    /// What it says.
    pub layer: Layer,
    /// Profiles that it names, each once.
    pub profiles: Vec<String>,
}

/// Which containers are meant; all where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Names of namespaces, of which one must fit; any where there is none.
    pub namespaces: Vec<Pattern>,
    /// Labels that the pod must have, with these values.
    pub labels: BTreeMap<String, String>,
}

/// A name, or the beginning of one with a `*` behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This name.
    Exact(String),
    /// Names that begin so.
    Prefix(String),
}

/// The container that a default is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Namespace of its pod; empty where there is none.
    pub namespace: &'a str,
    /// Labels of its pod, where they are known.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

impl Pattern {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Prefix(start) => name.starts_with(start.as_str()),
        }
    }
}

impl Match {
    /// `unknown` is the answer where labels decide and are not known.
    fn fits(&self, subject: Subject<'_>, unknown: bool) -> bool {
        let namespaces = &self.namespaces;
        let named = namespaces.is_empty()
            || namespaces
                .iter()
                .any(|pattern| pattern.fits(subject.namespace));
        named
            && match subject.labels {
                _ if self.labels.is_empty() => true,
                None => unknown,
                Some(labels) => {
                    let mut wanted = self.labels.iter();
                    wanted.all(|(key, value)| labels.get(key) == Some(value))
                }
            }
    }
}

impl NodeDefault {
    /// Whether it is for this container. Where labels would tell and are not
    /// known it is, which fails closed.
    #[must_use]
    pub fn is_for(&self, subject: Subject<'_>) -> bool {
        let exempt = |one: &Match| one.fits(subject, false);
        self.containers.fits(subject, true) && !self.exempt.iter().any(exempt)
    }
}

/// Why a text was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TextError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

impl TextError {
    /// What is wrong with what begins at a byte of `text`.
    #[must_use]
    pub fn at(text: &str, byte: usize, problem: impl Into<String>) -> Self {
        Self {
            line: line_of(text, byte),
            problem: problem.into(),
        }
    }
}

/// Reads a profile.
///
/// # Errors
///
/// The first line that is not understood.
pub fn parse_profile(text: &str) -> Result<Profile, TextError> {
    let raw: RawProfile = parse(text)?;
    let layer = Layer {
        deny: raw.deny,
        allow: raw.allow,
        mode: raw.mode,
        drift: raw.drift,
    };
    if says_nothing(&layer, &[]) {
        return Err(TextError {
            line: 1,
            problem: "a profile that says nothing, expected deny, allow or drift".to_owned(),
        });
    }
    Ok(Profile {
        description: raw.description,
        layer,
    })
}

/// Reads the node's configuration.
///
/// # Errors
///
/// The first line that is not understood.
pub fn parse_config(text: &str) -> Result<NodeConfig, TextError> {
    let raw: RawConfig = parse(text)?;
    let mut defaults: Vec<NodeDefault> = Vec::new();
    for raw in raw.defaults {
        let line = line_of(text, raw.span().start);
        let wrong = |problem: String| TextError { line, problem };
        let raw = raw.into_inner();
        let name = raw.name;
        let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
        if name.is_empty() || name.len() > DEFAULT_NAME_MAX || !name.chars().all(plain) {
            return Err(wrong(format!(
                "default {name:?}: expected a name of 1 to {DEFAULT_NAME_MAX} letters, digits, \
                 spaces, '-', '_' and '.'"
            )));
        }
        if defaults.iter().any(|default| default.name == name) {
            return Err(wrong(format!(
                "default {name:?}: a second one of this name"
            )));
        }
        let layer = Layer {
            deny: raw.deny,
            allow: raw.allow,
            mode: raw.mode,
            drift: raw.drift,
        };
        if says_nothing(&layer, &raw.profile) {
            return Err(wrong(format!(
                "default {name:?}: says nothing, expected deny, allow, drift or profile"
            )));
        }
        defaults.push(NodeDefault {
            name,
            containers: raw.containers.into(),
            exempt: raw.exempt.into_iter().map(Match::from).collect(),
            layer,
            profiles: raw.profile,
        });
    }
    Ok(NodeConfig { defaults })
}

/// Longest name of a default, in bytes.
const DEFAULT_NAME_MAX: usize = 64;

/// A mode alone has nothing to apply to.
fn says_nothing(layer: &Layer, profiles: &[String]) -> bool {
    let nothing = Layer {
        mode: layer.mode,
        ..Layer::default()
    };
    *layer == nothing && profiles.is_empty()
}

/// Reads a text as whatever its reader makes of it: tables of the node's
/// `config.toml` that are not this crate's, for one.
///
/// # Errors
///
/// The first line that is not understood.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, TextError> {
    toml::from_str(text).map_err(|error| {
        let byte = error.span().map_or(0, |span| span.start);
        TextError::at(text, byte, error.message())
    })
}

fn line_of(text: &str, byte: usize) -> usize {
    let before = text.bytes().take(byte);
    1 + before.filter(|byte| *byte == b'\n').count()
}

// The keys of a layer stand in both: `flatten` would let unknown keys pass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    #[serde(default)]
    description: String,
    #[serde(default, deserialize_with = "rules")]
    deny: BTreeSet<Rule>,
    #[serde(default, deserialize_with = "rules")]
    allow: BTreeSet<Rule>,
    #[serde(default, deserialize_with = "mode")]
    mode: Option<Mode>,
    #[serde(default, deserialize_with = "drift")]
    drift: Option<Drift>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default, rename = "default")]
    defaults: Vec<Spanned<RawDefault>>,
    /// The runtime wrapper's own part of the file, which it reads itself.
    #[serde(default, rename = "wrapper")]
    _wrapper: Option<IgnoredAny>,
    // The daemon's own: what is wrong there must not refuse a container.
    #[serde(default, rename = "log")]
    _log: Option<IgnoredAny>,
    #[serde(default, rename = "metrics")]
    _metrics: Option<IgnoredAny>,
    #[serde(default, rename = "events")]
    _events: Option<IgnoredAny>,
    #[serde(default, rename = "kubernetes")]
    _kubernetes: Option<IgnoredAny>,
    #[serde(default, rename = "nri")]
    _nri: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefault {
    name: String,
    #[serde(default, rename = "match")]
    containers: RawMatch,
    #[serde(default)]
    exempt: Vec<RawMatch>,
    #[serde(default, deserialize_with = "rules")]
    deny: BTreeSet<Rule>,
    #[serde(default, deserialize_with = "rules")]
    allow: BTreeSet<Rule>,
    #[serde(default, deserialize_with = "mode")]
    mode: Option<Mode>,
    #[serde(default, deserialize_with = "drift")]
    drift: Option<Drift>,
    #[serde(default, deserialize_with = "profiles")]
    profile: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatch {
    #[serde(default, deserialize_with = "patterns")]
    namespace: Vec<Pattern>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl From<RawMatch> for Match {
    fn from(raw: RawMatch) -> Self {
        Self {
            namespaces: raw.namespace,
            labels: raw.labels,
        }
    }
}

/// A list as an array of items, or as the text of an annotation.
enum Words {
    Text(String),
    Items(Vec<String>),
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

struct WordsVisitor;

impl<'de> de::Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items, or text with items split by commas or white space")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
        Ok(Words::Text(text.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Words::Items(all))
    }
}

fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Rule>, D::Error> {
    let rules = match Words::deserialize(deserializer)? {
        Words::Text(text) => parse_list(&text),
        // An empty allow-list would be none at all.
        Words::Items(items) if items.is_empty() => Err(Problem::EmptyList),
        Words::Items(items) => of_items(items.iter().map(String::as_str)),
    };
    rules.map_err(de::Error::custom)
}

fn profiles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = match Words::deserialize(deserializer)? {
        Words::Text(text) => parse_profiles(&text),
        Words::Items(items) if items.is_empty() => Err(Problem::NoProfile),
        Words::Items(items) => of_profiles(items.iter().map(String::as_str)),
    };
    names.map_err(de::Error::custom)
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mode>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Mode::parse(&text).map(Some).map_err(de::Error::custom)
}

fn drift<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Drift>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Drift::parse(&text).map(Some).map_err(de::Error::custom)
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let names = match Words::deserialize(deserializer)? {
        Words::Text(text) => vec![text],
        Words::Items(items) => items,
    };
    if names.is_empty() {
        // Nothing would stand for everything.
        return Err(de::Error::custom("no namespace, expected a name or NAME*"));
    }
    names.iter().map(|name| pattern(name)).collect()
}

fn pattern<E: de::Error>(name: &str) -> Result<Pattern, E> {
    let (start, is_prefix) = match name.strip_suffix('*') {
        Some(start) => (start, true),
        None => (name, false),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !start.chars().all(plain) || name.is_empty() {
        return Err(E::custom(format!(
            "namespace {name:?}, expected a name, or the beginning of one with a '*' behind"
        )));
    }
    Ok(if is_prefix {
        Pattern::Prefix(start.to_owned())
    } else {
        Pattern::Exact(start.to_owned())
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
