//! examples/prometheus and examples/grafana: that they are what they say, and that
//! what they ask for is there to be asked for.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use saphyr_parser::{Event, Parser};
use serde_json::Value;

use super::{
    Exposition,
    tests::{registry, samples},
};

fn example(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    examples.join(name).canonicalize().unwrap()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(example(name)).unwrap()
}

/// All scalars of a document that is well-formed.
fn scalars(yaml: &str) -> Vec<String> {
    let events = Parser::new_from_str(yaml).map(|event| event.unwrap().0);
    events
        .filter_map(|event| match event {
            Event::Scalar(text, ..) => Some(text.into_owned()),
            _ => None,
        })
        .collect()
}

/// Names of ours in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("execblock_"))
        .map(str::to_owned)
        .collect()
}

fn all_strings(value: &Value, strings: &mut Vec<String>) {
    match value {
        Value::String(text) => strings.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|one| all_strings(one, strings)),
        Value::Object(fields) => fields.values().for_each(|one| all_strings(one, strings)),
        _ => {}
    }
}

#[test]
fn alerts_ask_for_what_is_told() {
    let scalars = scalars(&read("prometheus/alerts.yaml"));
    let asked = named(&scalars.join(" "));
    assert!(asked.len() > 8, "{asked:?}");
    let missing: Vec<_> = asked.difference(&samples()).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_scrape_takes_the_alerts_and_the_port_of_the_page() {
    let scalars = scalars(&read("prometheus/scrape.yaml"));
    assert!(scalars.iter().any(|scalar| scalar == "alerts.yaml"));
    assert!(scalars.iter().any(|scalar| scalar == "127.0.0.1:9643"));
}

#[test]
fn the_dashboard_asks_for_what_is_told() {
    let dashboard: Value = serde_json::from_str(&read("grafana/execblock.json")).unwrap();
    let mut strings = Vec::new();
    all_strings(&dashboard, &mut strings);
    let asked = named(&strings.join(" "));
    let missing: Vec<_> = asked.difference(&samples()).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|one| one["type"] == "datasource"));
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
    }
    // Each metric that is told is to be seen somewhere.
    let bases = samples()
        .into_iter()
        .filter(|name| !name.ends_with("_count") && !name.ends_with("_sum"));
    let unseen: Vec<_> = bases.filter(|name| !asked.contains(name)).collect();
    assert_eq!(unseen, Vec::<String>::new());
}

#[test]
fn promtool_takes_rules_and_scrape() {
    for (what, name) in [
        ("rules", "prometheus/alerts.yaml"),
        ("config", "prometheus/scrape.yaml"),
    ] {
        let path = example(name);
        let Some(said) = promtool(&["check", what, path.to_str().unwrap()], "") else {
            return;
        };
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn promtool_finds_nothing_to_mend() {
    let text = Exposition::Prometheus
        .encode(&registry(true, true).0)
        .unwrap();
    let Some(said) = promtool(&["check", "metrics"], &text) else {
        return;
    };
    assert_eq!(said, "");
}

/// What promtool says; `None` where it is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<String> {
    let spawned = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped, promtool is not installed (Debian: prometheus)");
            return None;
        }
        child => child.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    Some(said)
}
