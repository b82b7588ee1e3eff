//! Annotations, as an engine would hand them over: KEY=VALUE, split by NUL.

use std::collections::BTreeMap;

use execblock::{
    annotation::{self, RULES_MAX, Rule},
    policy::{Policy, Rules, always},
    scope,
};

/// Reads the text, where it is one.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    let annotations: BTreeMap<String, String> = pairs
        .map(|(key, value)| (format!("execblock/{key}"), value.to_owned()))
        .collect();
    let Ok(holding) = scope::holding(&annotations, "web") else {
        return;
    };
    let Ok(asked) = annotation::read(holding) else {
        return;
    };
    for rules in [&asked.deny, &asked.allow] {
        assert!(rules.len() <= RULES_MAX);
        for rule in rules {
            // Records and orders keep rules as text.
            assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(rule));
        }
    }
    let policy = Policy::compile(&Rules {
        deny: always(&asked.deny),
        allow: always(&asked.allow),
    });
    // No rule is lost on the way to the maps.
    let ends = policy
        .entries(1)
        .filter(|(_, value)| value.rule != 0)
        .count()
        + policy
            .glob_entries(1)
            .filter(|(_, value)| value.rule != 0)
            .count();
    assert!(ends >= asked.deny.len() + asked.allow.len());
}
