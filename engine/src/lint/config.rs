//! Profiles and `config.toml`, before they are put on a node.

use super::{
    Finding, Report,
    rules::{self, List, Of},
};
use crate::{
    annotation::Spec,
    config::{self, NodeConfig, TextError},
    merge::Layer,
};

/// Looks through a profile, or a `config.toml` where the text has defaults.
#[must_use]
pub fn lint_toml(text: &str) -> Vec<Finding> {
    let mut report = Report::default();
    let mut lines = text.lines();
    let of_config = |line: &str| {
        let line = line.trim_start();
        line.starts_with("[[default")
            || ["wrapper", "log", "metrics", "events", "kubernetes", "nri"]
                .iter()
                .any(|table| line.strip_prefix('[').is_some_and(|l| l.starts_with(table)))
    };
    let is_config = lines.any(of_config);
    let result = if is_config {
        config::parse_config(text).map(|config| defaults(&config, &mut report))
    } else {
        config::parse_profile(text).map(|profile| layer("profile", &profile.layer, &mut report))
    };
    if let Err(TextError { line, problem }) = result {
        report.error(line, problem);
    }
    report.0.into_iter().collect()
}

fn defaults(config: &NodeConfig, report: &mut Report) {
    for default in &config.defaults {
        layer(
            &format!("default {:?}", default.name),
            &default.layer,
            report,
        );
        let exempt = default.exempt.iter();
        if exempt.clone().any(|match_| !match_.labels.is_empty()) {
            report.warning(
                0,
                format!(
                    "default {:?}: exempts by labels, which whoever writes the pod chooses",
                    default.name
                ),
            );
        }
        if !default.containers.labels.is_empty() {
            report.warning(
                0,
                format!(
                    "default {:?}: matches by labels, which whoever writes the pod chooses; a \
                     namespace is not theirs to choose",
                    default.name
                ),
            );
        }
    }
}

fn layer(who: &str, layer: &Layer, report: &mut Report) {
    let spec = Spec {
        deny: layer.deny.clone(),
        allow: layer.allow.clone(),
        drift: layer.drift.unwrap_or_default(),
        ..Spec::default()
    };
    for (list, name, written) in [
        (List::Deny, "deny", &layer.deny),
        (List::Allow, "allow", &layer.allow),
    ] {
        let of = Of {
            spec: &spec,
            list,
            who: format!("{who}: {name}"),
            line: 0,
        };
        rules::check(written, &of, report);
    }
}
