//! What OCI runtimes give to the hook and the wrapper: a state, a configuration, a
//! command line. The same bytes are read as each.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
    sync::LazyLock,
};

use execblock::{
    node::Node,
    oci::{Config, Container, State},
    scope,
};
use execblock_hooks::{
    args::{Invocation, Verb},
    inject,
};
use serde_json::Value;

static NODE: LazyLock<Node> = LazyLock::new(|| Node::unchecked("/nonexistent"));

/// Where the hook is.
const HOOK: &str = "/usr/libexec/execblock/execblock-hook";

/// Reads the bytes.
pub fn run(data: &[u8]) {
    let state = State::parse(data);
    let config = Config::parse(data, Path::new("config.json"));
    if let Err(error) = &state {
        assert!(!error.to_string().is_empty());
    }
    let bare = Container::new(
        state.as_ref().cloned().unwrap_or_default(),
        Config::default(),
    );
    check(&bare);
    if let Ok(config) = config {
        let path = config.cgroups_path.clone();
        let whole = Container::new(state.unwrap_or_default(), config);
        assert_eq!(whole.cgroups_path, path);
        // What the state has is not lost to what the configuration has.
        for (key, value) in &bare.annotations {
            assert_eq!(whole.annotations.get(key), Some(value));
        }
        check(&whole);
    }
    injected(data);
    command_line(data);
}

/// What holds for a container can be told, or is refused.
fn check(container: &Container) {
    let Ok(spec) = container.spec(&NODE) else {
        // Closed: but only for what is annotated. A node has no defaults here.
        assert!(container.is_annotated());
        return;
    };
    assert!(container.is_annotated() || spec.is_none());
    assert!(!container.is_sandbox() || spec.is_none());
    if container.is_annotated() {
        assert!(scope::has_ours(&container.annotations));
    }
}

/// A configuration with our hook differs by it alone.
fn injected(data: &[u8]) {
    let Ok(with) = inject::injected(data, HOOK) else {
        return;
    };
    // What is not ours needs to be no text that can be read whole.
    let Ok(before) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let Some(with) = with else {
        assert!(count(&before, "createRuntime") != 0 && count(&before, "poststop") != 0);
        return;
    };
    let mut after: Value = serde_json::from_slice(&with).expect("it is JSON");
    assert!(
        matches!(inject::injected(&with, HOOK), Ok(None)),
        "once is enough"
    );
    for stage in ["createRuntime", "poststop"] {
        let added = usize::from(count(&before, stage) == 0);
        assert_eq!(count(&after, stage), count(&before, stage) + added);
        if added != 0 {
            let hooks = after["hooks"][stage].as_array_mut().expect("a list");
            // The last one: those that were there come first.
            let ours = hooks.pop().expect("ours");
            assert_eq!(ours["path"], HOOK);
            let was = &before["hooks"][stage];
            if hooks.is_empty() && was.as_array().is_none() {
                after["hooks"][stage] = was.clone();
            }
        }
    }
    // Null and nothing are the same.
    assert_eq!(bare(after), bare(before));
    // What it has to say does not change.
    if let (Ok(one), Ok(other)) = (
        Config::parse(data, Path::new("")),
        Config::parse(&with, Path::new("")),
    ) {
        assert_eq!(one, other);
    }
}

/// Hooks of a stage that are ours.
fn count(config: &Value, stage: &str) -> usize {
    let hooks = config["hooks"][stage].as_array().into_iter().flatten();
    hooks.filter(|hook| hook["path"] == HOOK).count()
}

/// Without the keys that were made for our hook and hold nothing else.
fn bare(mut config: Value) -> Value {
    let Some(map) = config.as_object_mut() else {
        return config;
    };
    if let Some(hooks) = map.get_mut("hooks").and_then(Value::as_object_mut) {
        hooks.retain(|stage, of_stage| {
            !matches!(stage.as_str(), "createRuntime" | "poststop") || !of_stage.is_null()
        });
    }
    map.retain(|key, value| {
        key != "hooks"
            || !(value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty))
    });
    config
}

/// A command line, its words apart by NUL or by the end of a line.
fn command_line(data: &[u8]) {
    let words: Vec<OsString> = data
        .split(|byte| matches!(byte, 0 | b'\n'))
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let found = Invocation::parse(&words);
    assert!(words.starts_with(found.globals));
    if found.verb == Verb::Other {
        return;
    }
    let at = found.globals.len();
    let verb = words
        .get(at)
        .expect("the verb stands behind what is global");
    assert!(matches!(
        verb.as_bytes(),
        b"start" | b"run" | b"restore" | b"delete" | b"create"
    ));
    let behind: BTreeSet<&OsStr> = words[at + 1..].iter().map(OsString::as_os_str).collect();
    if let Some(id) = found.id {
        assert!(behind.contains(id));
    }
    let values = [
        found.root.map(Path::as_os_str),
        found.log,
        found.bundle.map(Path::as_os_str),
        found.config.map(Path::as_os_str),
    ];
    for value in values.into_iter().flatten() {
        assert!(
            words
                .iter()
                .any(|word| word.as_bytes().ends_with(value.as_bytes()))
        );
    }
    // Words behind a dash dash are no flags, and change no verb.
    let mut longer = words.clone();
    longer.extend(["--", "--root=/other"].map(OsString::from));
    let longer = Invocation::parse(&longer);
    assert_eq!((longer.verb, longer.globals), (found.verb, found.globals));
    assert!(found.root.is_none() || longer.root == found.root);
}
