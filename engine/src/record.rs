//! What is bound, for people and for the next process of ours: one JSON file a
//! container. The maps hold what the kernel needs, this holds the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

pub use crate::owner::Owner;

use crate::{
    annotation::{Drift, Mode, Rule, Spec},
    cgroup::Cgroup,
    order::{Order, Orders},
    origin::{Origin, Origins},
    root::Links,
};

/// A bound container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who it is.
    #[serde(flatten)]
    pub owner: Owner,
    /// The bound cgroup: key of the map `containers`.
    pub cgroup: u64,
    /// Its path in the v2 hierarchy.
    pub path: String,
    /// Its first process, in the initial pid namespace; 0 where that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub init: u32,
    /// What its annotations, profiles and defaults deny; empty where nothing.
    pub deny: Vec<String>,
    /// What they allow; empty where there is no allow-list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// `enforce` or `audit`.
    pub mode: String,
    /// `deny`, `audit` or `off`; empty as `off`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub drift: String,
    /// See [`Spec::bounded`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bounded: bool,
    /// Where the rules of `deny` come from that no annotation names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deny_origins: BTreeMap<String, Origin>,
    /// The same of `allow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow_origins: BTreeMap<String, Origin>,
    /// What the command line ordered, by rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub orders: BTreeMap<String, Order>,
    /// What the directories of path rules stood for when they were bound.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: Links,
    /// Digest of the policy that all this is compiled to, in hexadecimal: that of the map
    /// `policies`. Empty where it was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
}

impl Record {
    /// What a container is bound to.
    #[must_use]
    pub fn new(owner: &Owner, cgroup: &Cgroup, spec: Option<&Spec>, orders: &Orders) -> Self {
        let orders = orders.by_rule().iter();
        let none = Spec::default();
        let spec = spec.unwrap_or(&none);
        let texts = |rules: &BTreeSet<Rule>| rules.iter().map(ToString::to_string).collect();
        let origins = |origins: &BTreeMap<Rule, Origin>| {
            let origins = origins.iter();
            origins
                .map(|(rule, origin)| (rule.to_string(), origin.clone()))
                .collect()
        };
        let mut record = Self {
            owner: owner.clone(),
            cgroup: cgroup.id,
            path: cgroup.path.clone(),
            init: 0,
            deny: texts(&spec.deny),
            allow: texts(&spec.allow),
            mode: String::new(),
            drift: String::new(),
            bounded: spec.bounded,
            deny_origins: origins(&spec.origins.deny),
            allow_origins: origins(&spec.origins.allow),
            orders: orders
                .map(|(rule, order)| (rule.to_string(), *order))
                .collect(),
            links: Links::new(),
            policy: String::new(),
        };
        record.set_mode(spec.mode);
        record.set_drift(spec.drift);
        record
    }

    /// Whether both are kept in the same file.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.owner.container, self.cgroup) == (&other.owner.container, other.cgroup)
    }

    /// Sets what becomes of a denied program.
    pub fn set_mode(&mut self, mode: Mode) {
        mode.name().clone_into(&mut self.mode);
    }

    /// What becomes of a denied program.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn mode(&self) -> Result<Mode, RecordError> {
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == self.mode)
            .ok_or_else(|| self.wrong(format!("mode {:?}", self.mode)))
    }

    /// Sets what becomes of files that did not come with the image.
    pub fn set_drift(&mut self, drift: Drift) {
        let text = if drift == Drift::Off {
            ""
        } else {
            drift.name()
        };
        text.clone_into(&mut self.drift);
    }

    /// What becomes of files that did not come with the image.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn drift(&self) -> Result<Drift, RecordError> {
        if self.drift.is_empty() {
            return Ok(Drift::Off);
        }
        Drift::ALL
            .into_iter()
            .find(|drift| drift.name() == self.drift)
            .ok_or_else(|| self.wrong(format!("drift {:?}", self.drift)))
    }

    /// What annotations, profiles and defaults ask for; `None` where nothing.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn spec(&self) -> Result<Option<Spec>, RecordError> {
        let rules = |texts: &[String]| -> Result<BTreeSet<Rule>, RecordError> {
            texts.iter().map(|text| self.rule(text)).collect()
        };
        let origins = |texts: &BTreeMap<String, Origin>| {
            let origins = texts.iter();
            let origins = origins.map(|(text, origin)| Ok((self.rule(text)?, origin.clone())));
            origins.collect::<Result<BTreeMap<Rule, Origin>, RecordError>>()
        };
        let spec = Spec {
            deny: rules(&self.deny)?,
            allow: rules(&self.allow)?,
            mode: self.mode()?,
            drift: self.drift()?,
            bounded: self.bounded,
            origins: Origins {
                deny: origins(&self.deny_origins)?,
                allow: origins(&self.allow_origins)?,
            },
        };
        Ok(Some(spec).filter(|spec| !spec.is_empty()))
    }

    /// What the command line ordered.
    ///
    /// # Errors
    ///
    /// Where the record was changed by hand.
    pub fn orders(&self) -> Result<Orders, RecordError> {
        let orders = self.orders.iter();
        let orders = orders.map(|(text, order)| Ok((self.rule(text)?, *order)));
        Ok(Orders::new(orders.collect::<Result<_, RecordError>>()?))
    }

    fn rule(&self, text: &str) -> Result<Rule, RecordError> {
        text.parse()
            .map_err(|reason| self.wrong(format!("rule {text:?}: {reason}")))
    }

    fn wrong(&self, problem: String) -> RecordError {
        RecordError::Content {
            container: self.owner.container.clone(),
            problem,
        }
    }
}

/// A record that could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The engine's id would make a bad file name.
    #[error("container id {0:?} is not of letters, digits, '_', '+', '.' and '-' (at most 128)")]
    Id(String),
    /// A file.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A record that holds what no version of ours writes.
    #[error("the record of {container} holds a {problem}: somebody changed it")]
    Content {
        /// The container.
        container: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that was not understood.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
