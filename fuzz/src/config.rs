//! The texts of profiles and of the node's `config.toml`.

use execblock::{
    config::{Subject, parse_config, parse_profile},
    lint::lint_toml,
    merge::{Floor, Layer, Voice, merge},
};

/// Reads the text, where it is one.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let lines = text.lines().count() + 1;
    let findings = lint_toml(text);
    assert!(findings.iter().all(|finding| finding.line <= lines));
    if let Err(error) = parse_profile(text) {
        assert!((1..=lines).contains(&error.line));
    }
    let config = match parse_config(text) {
        Ok(config) => config,
        Err(error) => {
            assert!((1..=lines).contains(&error.line));
            return;
        }
    };
    let subject = Subject {
        namespace: "shop",
        labels: None,
    };
    let floors: Vec<Floor> = config
        .defaults
        .iter()
        .filter(|default| default.is_for(subject))
        .map(|default| Floor {
            name: default.name.clone(),
            voice: Voice::of_default(&default.name, &default.layer, &[]),
        })
        .collect();
    // A pod that asks for nothing gets all that the defaults deny.
    if let Ok(merged) = merge(Voice::of_pod(&Layer::default(), &[]), &floors) {
        for default in config.defaults.iter().filter(|one| one.is_for(subject)) {
            assert!(merged.spec.deny.is_superset(&default.layer.deny));
            assert!(merged.spec.drift >= default.layer.drift.unwrap_or_default());
            assert!(default.layer.allow.is_empty() || !merged.spec.allow.is_empty());
        }
    }
}
