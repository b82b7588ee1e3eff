//! What the command line orders for a running container, on top of its
//! annotations. Pure.
//!
//! For each rule there are two orders, each with its end: one that denies it and
//! one that lifts what denies it. `deny` replaces both, `allow` sets the second,
//! so that `allow --for 10m` comes back to what was before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::origin::Origin;
use crate::{
    annotation::{Rule, Spec},
    policy::{Held, List, Window, rule_id},
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
}

impl Order {
    fn is_empty(self) -> bool {
        self.deny.is_none() && self.allow.is_none()
    }

    fn without_past(self, now: u64) -> Self {
        let left = |order: Option<Until>| order.filter(|until| !until.is_over(now));
        Self {
            deny: left(self.deny),
            allow: left(self.allow),
        }
    }
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Deny these.
    Deny(Vec<Rule>, Until),
    /// Lift what denies these.
    Allow(Vec<Rule>, Until),
    /// Back to the annotations alone.
    Clear,
}

/// A rule that can't be lifted because nothing denies it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing denies {rule}{}", those(denied))]
pub struct NotDenied {
    /// What was to be lifted.
    pub rule: String,
    /// What is denied.
    pub denied: Vec<String>,
}

fn those(rules: &[String]) -> String {
    if rules.is_empty() {
        "; the container has no rule".to_owned()
    } else {
        format!(
            "; a rule is lifted as it is written, and denied are: {}",
            rules.join(", ")
        )
    }
}

/// A rule that is in the policy, or lifted from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
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
    /// Where something is to be lifted that nothing denies; nothing is changed.
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
                    let order = Order {
                        deny: Some(*until),
                        allow: None,
                    };
                    orders.insert(rule.clone(), order);
                }
            }
            Change::Allow(rules, until) => {
                for rule in rules {
                    let annotated = spec.is_some_and(|spec| spec.deny.contains(rule));
                    let order = orders.entry(rule.clone()).or_default();
                    if !annotated && order.deny.is_none() {
                        return Err(NotDenied {
                            rule: rule.to_string(),
                            denied: self.denied(spec, now),
                        });
                    }
                    if *until == Until::Cleared {
                        order.deny = None;
                    }
                    order.allow = (annotated || order.deny.is_some()).then_some(*until);
                }
            }
        }
        orders.retain(|_, order| !order.is_empty());
        Ok(Self(orders))
    }

    /// What annotations and orders come to, for a report.
    #[must_use]
    pub fn lines(&self, spec: Option<&Spec>, now: u64) -> Vec<Line> {
        let annotated = spec.into_iter().flat_map(|spec| {
            let origin = |rule| spec.origins.deny.get(rule).cloned().unwrap_or_default();
            spec.deny.iter().map(move |rule| (rule, origin(rule)))
        });
        let mut lines: BTreeMap<&Rule, Origin> = self
            .0
            .iter()
            .filter(|(_, order)| order.without_past(now).deny.is_some())
            .map(|(rule, _)| (rule, Origin::CommandLine))
            .collect();
        lines.extend(annotated);
        lines
            .into_iter()
            .map(|(rule, origin)| {
                let order = self.0.get(rule).copied().unwrap_or_default();
                Line {
                    rule: rule.clone(),
                    window: window(&origin, order.without_past(now)),
                    origin,
                }
            })
            .collect()
    }

    /// What annotations and orders deny, for the kernel.
    #[must_use]
    pub fn rules(&self, spec: Option<&Spec>, now: u64) -> List {
        let lines = self.lines(spec, now).into_iter();
        lines
            .filter_map(|Line { rule, window, .. }| {
                let id = rule_id(&rule);
                window.map(|window| (rule, Held { id, window }))
            })
            .collect()
    }

    /// Every rule that annotations or orders name, lifted or not.
    pub fn all_rules<'a>(&'a self, spec: Option<&'a Spec>) -> impl Iterator<Item = &'a Rule> {
        let annotated = spec.into_iter().flat_map(|spec| &spec.deny);
        annotated.chain(self.0.keys())
    }

    fn denied(&self, spec: Option<&Spec>, now: u64) -> Vec<String> {
        let lines = self.lines(spec, now).into_iter();
        lines.map(|line| line.rule.to_string()).collect()
    }
}

fn window(origin: &Origin, order: Order) -> Option<Window> {
    let until = match (origin, order.deny) {
        (Origin::CommandLine, Some(Until::At(end))) => end,
        // What an annotation, profile or default denies, no order shortens.
        _ => 0,
    };
    let from = match order.allow {
        None => 0,
        Some(Until::At(end)) => end,
        Some(Until::Cleared) => return None,
    };
    (until == 0 || from < until).then_some(Window { from, until })
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
