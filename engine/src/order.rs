//! What the command line orders for a running container, on top of its
//! annotations. Pure.
//!
//! For each rule there are three orders, each with its end: one that denies it,
//! one that lifts what denies it, and one that adds it to the allow-list. `deny`
//! replaces the first two; `allow` sets the second, so that `allow --for 10m`
//! comes back to what was before, or the third where nothing denies the rule and
//! the container has an allow-list.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use crate::origin::Origin;
use crate::{
    annotation::{Rule, Spec},
    policy::{Held, List, Rules, Window, rule_id},
};

/// How long an order holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// As long as the container lives, or until another order.
    Cleared,
    /// Until this instant: nanoseconds of `CLOCK_BOOTTIME`.
    At(u64),
}

impl Until {
    /// Whichever holds longer.
    fn later(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(one), Self::At(two)) => Self::At(one.max(two)),
            (Self::Cleared, _) | (_, Self::Cleared) => Self::Cleared,
        }
    }

    fn is_over(self, now: u64) -> bool {
        matches!(self, Self::At(end) if end <= now)
    }
}

/// What was ordered for one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// It is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<Until>,
    /// What denies it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Until>,
    /// It is in the allow-list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Until>,
}

impl Order {
    fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn without_past(self, now: u64) -> Self {
        let left = |order: Option<Until>| order.filter(|until| !until.is_over(now));
        Self {
            deny: left(self.deny),
            allow: left(self.allow),
            list: left(self.list),
        }
    }
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Deny these.
    Deny(Vec<Rule>, Until),
    /// Lift what denies these, or add them to the allow-list.
    Allow(Vec<Rule>, Until),
    /// Back to the annotations alone.
    Clear,
}

/// A rule that can't be allowed: nothing denies it, and there is no allow-list to
/// add it to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing denies {rule}{}", those(denied))]
pub struct NotDenied {
    /// What was to be allowed.
    pub rule: String,
    /// What is denied.
    pub denied: Vec<String>,
}

/// Rules for a message: a group is many.
#[must_use]
pub fn some(rules: &[String]) -> String {
    const SHOWN: usize = 12;
    match rules.get(..SHOWN) {
        Some(first) if rules.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), rules.len() - SHOWN)
        }
        _ => rules.join(", "),
    }
}

fn those(rules: &[String]) -> String {
    if rules.is_empty() {
        "; the container has no rule, and no allow-list to add it to".to_owned()
    } else {
        format!(
            "; the container has no allow-list to add it to, a rule is lifted as it is written, \
             and denied are: {}",
            some(rules)
        )
    }
}

/// The list that a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum In {
    /// What may not be executed.
    Deny,
    /// What alone may be executed.
    Allow,
}

impl In {
    /// The verb.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

/// A rule that is in the policy, or lifted from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its list.
    pub list: In,
    /// The rule.
    pub rule: Rule,
    /// Where it comes from.
    pub origin: Origin,
    /// When it holds; `None` where it was lifted for good.
    pub window: Option<Window>,
}

/// All orders of a container, by rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders(BTreeMap<Rule, Order>);

impl Orders {
    /// Orders by rule.
    #[must_use]
    pub fn new(orders: BTreeMap<Rule, Order>) -> Self {
        Self(orders)
    }

    /// Of a command of our own: what it may not execute, and what alone it may.
    #[must_use]
    pub fn of_command(
        deny: impl IntoIterator<Item = Rule>,
        allow: impl IntoIterator<Item = Rule>,
    ) -> Self {
        let mut orders: BTreeMap<Rule, Order> = BTreeMap::new();
        for rule in deny {
            orders.entry(rule).or_default().deny = Some(Until::Cleared);
        }
        for rule in allow {
            orders.entry(rule).or_default().list = Some(Until::Cleared);
        }
        Self(orders)
    }

    /// The orders by rule.
    #[must_use]
    pub fn by_rule(&self) -> &BTreeMap<Rule, Order> {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These orders after one more. What has ended by `now` is left out.
    ///
    /// # Errors
    ///
    /// Where something is to be allowed that nothing denies, without an allow-list;
    /// nothing is changed.
    pub fn after(&self, spec: Option<&Spec>, change: &Change, now: u64) -> Result<Self, NotDenied> {
        let mut orders: BTreeMap<Rule, Order> = self
            .0
            .iter()
            .map(|(rule, order)| (rule.clone(), order.without_past(now)))
            .collect();
        match change {
            Change::Clear => orders.clear(),
            Change::Deny(rules, until) => {
                for rule in rules {
                    let order = orders.entry(rule.clone()).or_default();
                    order.deny = Some(*until);
                    order.allow = None;
                }
            }
            Change::Allow(rules, until) => {
                let lists = self.has_list(spec, now);
                for rule in rules {
                    let order = orders.entry(rule.clone()).or_default();
                    order
                        .allow(rule, spec, *until, lists)
                        .ok_or_else(|| NotDenied {
                            rule: rule.to_string(),
                            denied: self.denied(spec, now),
                        })?;
                }
            }
        }
        orders.retain(|_, order| !order.is_empty());
        Ok(Self(orders))
    }

    /// What annotations and orders come to, for a report: what is denied, then
    /// the allow-list.
    #[must_use]
    pub fn lines(&self, spec: Option<&Spec>, now: u64) -> Vec<Line> {
        let deny = self.origins(
            spec.into_iter()
                .flat_map(|spec| origins_of(&spec.deny, &spec.origins.deny)),
            |order| order.deny,
            now,
        );
        let allow = self.origins(
            spec.into_iter()
                .flat_map(|spec| origins_of(&spec.allow, &spec.origins.allow)),
            |order| order.list,
            now,
        );
        let line = |list, rule: &Rule, origin| {
            let order = self.0.get(rule).copied().unwrap_or_default();
            Line {
                list,
                rule: rule.clone(),
                window: window(list, &origin, order.without_past(now)),
                origin,
            }
        };
        let deny = deny.into_iter();
        let allow = allow.into_iter();
        deny.map(|(rule, origin)| line(In::Deny, rule, origin))
            .chain(allow.map(|(rule, origin)| line(In::Allow, rule, origin)))
            .collect()
    }

    /// The rules of one list: those `written` on the container, and those that
    /// were ordered and have not ended.
    fn origins<'a>(
        &'a self,
        written: impl Iterator<Item = (&'a Rule, Origin)>,
        ordered: fn(Order) -> Option<Until>,
        now: u64,
    ) -> BTreeMap<&'a Rule, Origin> {
        let orders = self.0.iter();
        let mut origins: BTreeMap<&Rule, Origin> = orders
            .filter(|(_, order)| ordered(order.without_past(now)).is_some())
            .map(|(rule, _)| (rule, Origin::CommandLine))
            .collect();
        origins.extend(written);
        origins
    }

    /// What annotations and orders come to, for the kernel.
    #[must_use]
    pub fn rules(&self, spec: Option<&Spec>, now: u64) -> Rules {
        let mut rules = Rules::default();
        for Line {
            list, rule, window, ..
        } in self.lines(spec, now)
        {
            let Some(window) = window else { continue };
            let id = rule_id(&rule);
            let list: &mut List = match list {
                In::Deny => &mut rules.deny,
                In::Allow => &mut rules.allow,
            };
            list.insert(rule, Held { id, window });
        }
        rules
    }

    /// Every rule that annotations or orders name, lifted or not.
    pub fn all_rules<'a>(&'a self, spec: Option<&'a Spec>) -> impl Iterator<Item = &'a Rule> {
        let annotated = spec
            .into_iter()
            .flat_map(|spec| spec.deny.iter().chain(&spec.allow));
        annotated.chain(self.0.keys())
    }

    /// Whether there is an allow-list to add to.
    fn has_list(&self, spec: Option<&Spec>, now: u64) -> bool {
        let mut orders = self.0.values();
        spec.is_some_and(|spec| !spec.allow.is_empty())
            || orders.any(|order| order.without_past(now).list.is_some())
    }

    fn denied(&self, spec: Option<&Spec>, now: u64) -> Vec<String> {
        let lines = self.lines(spec, now).into_iter();
        lines
            .filter(|line| line.list == In::Deny)
            .map(|line| line.rule.to_string())
            .collect()
    }
}

impl Order {
    /// Lifts what denies the rule. Where nothing does, or that is lifted already,
    /// the rule is added to the allow-list, if the container has one (`lists`).
    fn allow(&mut self, rule: &Rule, spec: Option<&Spec>, until: Until, lists: bool) -> Option<()> {
        let annotated = spec.is_some_and(|spec| spec.deny.contains(rule));
        let is_denied = annotated || self.deny.is_some();
        if lists && (!is_denied || self.allow.is_some()) {
            // What the container's own list has needs no order, and none ends it.
            let listed = spec.is_some_and(|spec| spec.allow.contains(rule));
            let until = self.list.map_or(until, |before| before.later(until));
            self.list = (!listed).then_some(until);
        } else if !is_denied {
            return None;
        }
        if is_denied {
            if until == Until::Cleared {
                self.deny = None;
            }
            self.allow = (annotated || self.deny.is_some()).then_some(until);
        }
        Some(())
    }
}

/// Rules with where they come from.
fn origins_of<'a>(
    rules: &'a BTreeSet<Rule>,
    origins: &'a BTreeMap<Rule, Origin>,
) -> impl Iterator<Item = (&'a Rule, Origin)> {
    let origin = |rule| origins.get(rule).cloned().unwrap_or_default();
    rules.iter().map(move |rule| (rule, origin(rule)))
}

/// When a rule of a list holds.
fn window(list: In, origin: &Origin, order: Order) -> Option<Window> {
    let (ordered, lifted) = match list {
        In::Deny => (order.deny, order.allow),
        In::Allow => (order.list, None),
    };
    let until = match (origin, ordered) {
        (Origin::CommandLine, Some(Until::At(end))) => end,
        // What an annotation, profile or default says, no order shortens.
        _ => 0,
    };
    let from = match lifted {
        None => 0,
        Some(Until::At(end)) => end,
        Some(Until::Cleared) => return None,
    };
    (until == 0 || from < until).then_some(Window { from, until })
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
