//! Annotations, profiles and the node's defaults in, what holds out. Pure.
//!
//! Annotations and the profiles that they name are one voice, the pod's: rules
//! add up, and what an annotation says of mode and drift counts. Each default is
//! a floor under it: whatever a default refuses stays refused.
//!
//! - What a default denies is denied.
//! - The stronger drift holds, and no item of the pod's admits a file that a
//!   default's drift would not.
//! - Where a default enforces, so does the container.
//! - Of the pod's allow-list each item must lie within each default's list;
//!   where the pod has none, the defaults' lists hold, as far as they agree. Links
//!   in the image do not widen such a list.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    annotation::{Asked, Drift, Mode, RULES_MAX, Rule, Spec},
    origin::{Origin, Origins},
};

/// What one source says: annotations, a profile, or a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Programs that may not be executed.
    pub deny: BTreeSet<Rule>,
    /// Programs that alone may be executed; empty where it is not set.
    pub allow: BTreeSet<Rule>,
    /// `None` where it is not set.
    pub mode: Option<Mode>,
    /// `None` where it is not set.
    pub drift: Option<Drift>,
}

impl Layer {
    /// The mode that it stands for: what would refuse something enforces, unless
    /// it says otherwise.
    fn floor(&self) -> Option<Mode> {
        let refuses = !self.deny.is_empty() || !self.allow.is_empty();
        let enforces = refuses || self.drift == Some(Drift::Deny);
        self.mode.or(enforces.then_some(Mode::Enforce))
    }
}

/// The annotations without the names of profiles.
impl From<&Asked> for Layer {
    fn from(asked: &Asked) -> Self {
        Self {
            deny: asked.deny.clone(),
            allow: asked.allow.clone(),
            mode: asked.mode,
            drift: asked.drift,
        }
    }
}

/// A source together with the profiles that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    deny: BTreeMap<Rule, Origin>,
    allow: BTreeMap<Rule, Origin>,
    mode: Option<Mode>,
    drift: Option<Drift>,
}

impl Voice {
    /// A pod's annotations and the profiles that they name.
    #[must_use]
    pub fn of_pod(own: &Layer, profiles: &[(String, Layer)]) -> Self {
        Self::of(own, &Origin::Annotation, profiles, |name| {
            Origin::Profile(name.to_owned())
        })
    }

    /// A default of the node, by its name, and the profiles that it names.
    #[must_use]
    pub fn of_default(name: &str, own: &Layer, profiles: &[(String, Layer)]) -> Self {
        let origin = Origin::NodeDefault(name.to_owned());
        Self::of(own, &origin, profiles, |_| origin.clone())
    }

    fn of(
        own: &Layer,
        origin: &Origin,
        profiles: &[(String, Layer)],
        of_profile: impl Fn(&str) -> Origin,
    ) -> Self {
        let mut voice = Self::default();
        let named = profiles.iter();
        let named = named.map(|(name, layer)| (of_profile(name), layer));
        // Its own are last: they win the origin of a rule.
        for (origin, layer) in named.chain([(origin.clone(), own)]) {
            let from = |rules: &BTreeSet<Rule>| {
                let rules: Vec<_> = rules.iter().cloned().collect();
                rules.into_iter().map(|rule| (rule, origin.clone()))
            };
            voice.deny.extend(from(&layer.deny));
            voice.allow.extend(from(&layer.allow));
            voice.mode = stricter(voice.mode, layer.floor());
            voice.drift = voice.drift.max(layer.drift);
        }
        voice.mode = own.mode.or(voice.mode);
        voice.drift = own.drift.or(voice.drift);
        voice
    }
}

fn stricter(one: Option<Mode>, other: Option<Mode>) -> Option<Mode> {
    match (one, other) {
        (Some(Mode::Enforce), _) | (_, Some(Mode::Enforce)) => Some(Mode::Enforce),
        (one, other) => one.or(other),
    }
}

/// A default that holds for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Its name.
    pub name: String,
    /// What it says.
    pub voice: Voice,
}

/// Why a pod and the node's defaults don't go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// More than [`RULES_MAX`] rules in one list.
    #[error(
        "{list}: {count} rules with those of profiles and node defaults, expected at most \
         {RULES_MAX}"
    )]
    TooMany {
        /// `deny` or `allow`.
        list: &'static str,
        /// Their number.
        count: usize,
    },
    /// The pod would allow what a default does not.
    #[error(
        "allow: {item} is not within the allow-list of node default {default}; \
         expected an item of that list, or one that lies within one: {list}"
    )]
    NotWithin {
        /// The pod's item, and where it comes from.
        item: String,
        /// The default's name.
        default: String,
        /// The default's list, shortened.
        list: String,
    },
    /// The pod, or another default, would admit files on other file systems than the
    /// root.
    #[error(
        "allow: {item} would admit files on volumes, which the drift of node default \
         {default} does not; expected names here, or that path in the default's allow-list"
    )]
    Admits {
        /// The pod's item, and where it comes from.
        item: String,
        /// The default's name.
        default: String,
    },
    /// Several defaults have allow-lists that have nothing in common.
    #[error(
        "node default {0} and those before it have allow-lists with nothing in common, so that \
         nothing could run; expected one list, or lists that agree"
    )]
    NothingInCommon(String),
}

/// Something that the pod asked for and did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It asked for audit.
    Enforced {
        /// The default that enforces.
        default: String,
    },
    /// It asked for less drift.
    Drift {
        /// What it asked for.
        asked: Drift,
        /// What holds.
        holds: Drift,
        /// The default that asks for more.
        default: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced { default } => write!(
                f,
                "mode audit does not hold: node default {default} enforces"
            ),
            Self::Drift {
                asked,
                holds,
                default,
            } => write!(
                f,
                "drift {} does not hold: node default {default} asks for {}",
                asked.name(),
                holds.name()
            ),
        }
    }
}

/// What holds, and what the pod did not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// What holds.
    pub spec: Spec,
    /// What was asked for and is not followed.
    pub notes: Vec<Note>,
}

/// What holds for a container: what its pod says, on the floor of the defaults.
///
/// # Errors
///
/// Where the pod would loosen a default, or the lists are too long. Fails
/// closed: the caller refuses the container.
pub fn merge(pod: Voice, defaults: &[Floor]) -> Result<Merged, MergeError> {
    let mut notes = Vec::new();
    for floor in defaults {
        within(&pod, floor)?;
        notes.extend(notes_on(&pod, floor));
    }
    let mode = defaults
        .iter()
        .fold(pod.mode, |mode, floor| stricter(mode, floor.voice.mode));
    let drifts = defaults.iter().map(|floor| floor.voice.drift);
    let drift = drifts.fold(pod.drift, Option::max).unwrap_or_default();
    let allow = if pod.allow.is_empty() {
        common(defaults)?
    } else {
        pod.allow
    };
    for floor in defaults {
        admits_nothing_more(&allow, floor)?;
    }
    let mut deny = BTreeMap::new();
    for floor in defaults {
        deny.extend(floor.voice.deny.clone());
    }
    deny.extend(pod.deny);
    for (list, rules) in [("deny", &deny), ("allow", &allow)] {
        if rules.len() > RULES_MAX {
            return Err(MergeError::TooMany {
                list,
                count: rules.len(),
            });
        }
    }
    let spec = Spec {
        deny: deny.keys().cloned().collect(),
        allow: allow.keys().cloned().collect(),
        mode: mode.unwrap_or_default(),
        drift,
        bounded: defaults.iter().any(|floor| !floor.voice.allow.is_empty()),
        origins: Origins {
            deny: unannotated(deny),
            allow: unannotated(allow),
        },
    };
    Ok(Merged { spec, notes })
}

fn unannotated(rules: BTreeMap<Rule, Origin>) -> BTreeMap<Rule, Origin> {
    let mut rules = rules;
    rules.retain(|_, origin| *origin != Origin::Annotation);
    rules
}

fn within(pod: &Voice, floor: &Floor) -> Result<(), MergeError> {
    let list = &floor.voice.allow;
    for (item, origin) in &pod.allow {
        if !list.is_empty() && !list.keys().any(|wide| covers(wide, item)) {
            return Err(MergeError::NotWithin {
                item: format!("{item} ({origin})"),
                default: floor.name.clone(),
                list: shown(list.keys()),
            });
        }
    }
    Ok(())
}

/// Where a default looks at drift, the list that holds, the pod's or another
/// default's, admits no file of another file system that the default's own does not.
fn admits_nothing_more(allow: &BTreeMap<Rule, Origin>, floor: &Floor) -> Result<(), MergeError> {
    if floor.voice.drift.is_none_or(|drift| drift == Drift::Off) {
        return Ok(());
    }
    let list = &floor.voice.allow;
    let more = allow.iter().find(|(item, _)| {
        admits(item) && !list.keys().any(|wide| admits(wide) && covers(wide, item))
    });
    match more {
        None => Ok(()),
        Some((item, origin)) => Err(MergeError::Admits {
            item: format!("{item} ({origin})"),
            default: floor.name.clone(),
        }),
    }
}

fn notes_on(pod: &Voice, floor: &Floor) -> Vec<Note> {
    let mut notes = Vec::new();
    let default = || floor.name.clone();
    if pod.mode == Some(Mode::Audit) && floor.voice.mode == Some(Mode::Enforce) {
        notes.push(Note::Enforced { default: default() });
    }
    if let (Some(asked), Some(holds)) = (pod.drift, floor.voice.drift)
        && asked < holds
    {
        notes.push(Note::Drift {
            asked,
            holds,
            default: default(),
        });
    }
    notes
}

/// What all defaults that have an allow-list allow.
fn common(defaults: &[Floor]) -> Result<BTreeMap<Rule, Origin>, MergeError> {
    let mut all: Option<BTreeMap<Rule, Origin>> = None;
    for floor in defaults {
        let list = &floor.voice.allow;
        if list.is_empty() {
            continue;
        }
        let Some(before) = all else {
            all = Some(list.clone());
            continue;
        };
        let narrow = |rules: &BTreeMap<Rule, Origin>, wide: &BTreeMap<Rule, Origin>| {
            let mut rules = rules.clone();
            rules.retain(|item, _| wide.keys().any(|wide| covers(wide, item)));
            rules
        };
        let mut both = narrow(&before, list);
        for (item, origin) in narrow(list, &before) {
            both.entry(item).or_insert(origin);
        }
        // Closed: an empty list would be none at all.
        if both.is_empty() {
            return Err(MergeError::NothingInCommon(floor.name.clone()));
        }
        all = Some(both);
    }
    Ok(all.unwrap_or_default())
}

/// Whether an item of an allow-list also says that a file may lie on another
/// file system than the container's root.
fn admits(item: &Rule) -> bool {
    matches!(item, Rule::Path(_) | Rule::Directory(_))
}

/// Whether whatever matches `narrow` matches `wide`.
///
/// A path is not within the name of its last component: a file that is mounted
/// over another keeps its own name and has the other's path.
#[must_use]
pub fn covers(wide: &Rule, narrow: &Rule) -> bool {
    match (wide, narrow) {
        _ if wide == narrow => true,
        (Rule::Prefix(wide), Rule::Name(text) | Rule::Prefix(text))
        | (Rule::Directory(wide), Rule::Path(text) | Rule::Directory(text)) => {
            text.starts_with(wide)
        }
        (Rule::Suffix(wide), Rule::Name(text) | Rule::Suffix(text)) => text.ends_with(wide),
        (Rule::Directory(wide), _) => wide == "/",
        _ => false,
    }
}

fn shown<'a>(rules: impl Iterator<Item = &'a Rule>) -> String {
    const SHOWN: usize = 8;
    let mut rules = rules.map(ToString::to_string);
    let mut text: Vec<String> = rules.by_ref().take(SHOWN).collect();
    match rules.count() {
        0 => {}
        more => text.push(format!("and {more} more")),
    }
    text.join(", ")
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
