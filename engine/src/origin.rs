//! Where rules come from, for people: it changes nothing in what holds. Pure.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::annotation::Rule;

/// Where a rule comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The container's annotations.
    #[default]
    Annotation,
    /// `execblock deny` or `execblock run`.
    CommandLine,
    /// A profile that the annotations name.
    Profile(String),
    /// A default of this node, by its name; also where it took the rule from a
    /// profile.
    NodeDefault(String),
}

/// `annotation`, `command line`, `profile NAME`, `node default NAME`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation => f.write_str("annotation"),
            Self::CommandLine => f.write_str("command line"),
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::NodeDefault(name) => write!(f, "node default {name}"),
        }
    }
}

/// For programs: `annotation`, `command-line`, `profile:NAME`, `default:NAME`.
const ANNOTATION: &str = "annotation";
const COMMAND_LINE: &str = "command-line";
const PROFILE: &str = "profile:";
const NODE_DEFAULT: &str = "default:";

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Annotation => serializer.serialize_str(ANNOTATION),
            Self::CommandLine => serializer.serialize_str(COMMAND_LINE),
            Self::Profile(name) => serializer.collect_str(&format_args!("{PROFILE}{name}")),
            Self::NodeDefault(name) => {
                serializer.collect_str(&format_args!("{NODE_DEFAULT}{name}"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(name) = text.strip_prefix(PROFILE) {
            return Ok(Self::Profile(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix(NODE_DEFAULT) {
            return Ok(Self::NodeDefault(name.to_owned()));
        }
        match text.as_str() {
            ANNOTATION => Ok(Self::Annotation),
            COMMAND_LINE => Ok(Self::CommandLine),
            other => Err(de::Error::custom(format!("unknown origin {other:?}"))),
        }
    }
}

/// Where the rules of a [`Spec`](crate::annotation::Spec) come from that its
/// annotations do not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Of the rules that deny.
    pub deny: BTreeMap<Rule, Origin>,
    /// Of the items of the allow-list.
    pub allow: BTreeMap<Rule, Origin>,
}
