//! Pods in what users write: kinds of Kubernetes that have a pod, or a template
//! of one.

use std::collections::BTreeMap;

use super::yaml::Node;

/// A pod, or a template of one, as far as it concerns us.
#[derive(Debug, Default)]
pub(super) struct Pod {
    /// Empty where the file does not say.
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: Vec<Entry>,
    pub(super) containers: Vec<Container>,
}

/// An annotation or a label.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// `None` where it is not a string.
    pub(super) value: Option<String>,
    pub(super) line: usize,
}

/// A container of a pod.
#[derive(Debug, Default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) commands: Vec<Command>,
    /// Where volumes are.
    pub(super) mounts: Vec<String>,
}

/// What is run in a container.
#[derive(Debug)]
pub(super) struct Command {
    /// Where it stands: `command`, `livenessProbe`, …
    pub(super) what: &'static str,
    pub(super) line: usize,
    /// Program and arguments.
    pub(super) words: Vec<String>,
}

/// What a document has for us.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) pods: Vec<Pod>,
    /// Annotations on objects that don't hand them to their pods: the kind, and
    /// where they would have to be.
    pub(super) misplaced: Vec<(Entry, String)>,
    /// Labels with our prefix.
    pub(super) labels: Vec<Entry>,
}

/// Kinds by the way to their template.
const KINDS: &[(&str, &[&str])] = &[
    ("Pod", &[]),
    ("Deployment", &["spec", "template"]),
    ("DaemonSet", &["spec", "template"]),
    ("StatefulSet", &["spec", "template"]),
    ("ReplicaSet", &["spec", "template"]),
    ("ReplicationController", &["spec", "template"]),
    ("Job", &["spec", "template"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
    ("PodTemplate", &["template"]),
];

/// Looks through a document; other kinds have nothing for us.
pub(super) fn find(document: &Node, found: &mut Found) {
    let kind = document.get("kind").and_then(Node::text).unwrap_or("");
    if kind == "List" {
        let items = document.get("items").map_or(&[][..], Node::items);
        // One level: a list in a list is no object of Kubernetes.
        for item in items
            .iter()
            .filter(|item| item.get("kind").and_then(Node::text) != Some("List"))
        {
            find(item, found);
        }
        return;
    }
    let Some((_, way)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        return;
    };
    let metadata = document.get("metadata");
    let namespace = metadata
        .and_then(|metadata| metadata.get("namespace"))
        .and_then(Node::text)
        .unwrap_or("");
    // Only the template's metadata reaches the pods.
    for depth in 0..way.len() {
        let outer = document.at(way.get(..depth).unwrap_or_default());
        for entry in outer.map_or_else(Vec::new, |outer| entries(outer, "annotations")) {
            found
                .misplaced
                .push((entry, format!("{}.metadata.annotations", way.join("."))));
        }
    }
    let Some(template) = document.at(way) else {
        return;
    };
    found.labels.extend(entries(template, "labels"));
    found.pods.push(pod(template, namespace));
}

fn entries(object: &Node, which: &str) -> Vec<Entry> {
    let entries = object
        .at(&["metadata", which])
        .map_or(&[][..], Node::entries);
    let entries = entries.iter().filter_map(|(key, value)| {
        Some(Entry {
            key: key.text()?.to_owned(),
            value: value.string().map(str::to_owned),
            line: key.line,
        })
    });
    entries.collect()
}

fn pod(template: &Node, namespace: &str) -> Pod {
    let labels = entries(template, "labels").into_iter();
    let labels = labels.filter_map(|entry| Some((entry.key, entry.value?)));
    let mut containers = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list = template.at(&["spec", list]).map_or(&[][..], Node::items);
        containers.extend(list.iter().map(|node| container(node)));
    }
    Pod {
        namespace: namespace.to_owned(),
        labels: labels.collect(),
        annotations: entries(template, "annotations"),
        containers,
    }
}

/// What is executed in a container, by the way to it.
const COMMANDS: &[(&str, &[&str])] = &[
    ("command", &["command"]),
    ("livenessProbe", &["livenessProbe", "exec", "command"]),
    ("readinessProbe", &["readinessProbe", "exec", "command"]),
    ("startupProbe", &["startupProbe", "exec", "command"]),
    (
        "lifecycle.postStart",
        &["lifecycle", "postStart", "exec", "command"],
    ),
    (
        "lifecycle.preStop",
        &["lifecycle", "preStop", "exec", "command"],
    ),
];

fn words(list: &Node) -> Vec<String> {
    let items = list.items().iter();
    items
        .filter_map(|item| item.text().map(str::to_owned))
        .collect()
}

fn container(node: &Node) -> Container {
    let mut commands = Vec::new();
    for (what, way) in COMMANDS {
        let Some(list) = node.at(way) else { continue };
        let mut words = words(list);
        if *what == "command" {
            words.extend(node.get("args").map_or_else(Vec::new, self::words));
        }
        if !words.is_empty() {
            commands.push(Command {
                what,
                line: list.line,
                words,
            });
        }
    }
    let mounts = node.get("volumeMounts").map_or(&[][..], Node::items);
    let mounts = mounts
        .iter()
        .filter_map(|mount| mount.get("mountPath")?.text().map(str::to_owned));
    Container {
        name: node
            .get("name")
            .and_then(Node::text)
            .unwrap_or("")
            .to_owned(),
        commands,
        mounts: mounts.collect(),
    }
}
