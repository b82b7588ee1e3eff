//! The files of engines: those in which they keep what they know of containers, and
//! the configurations that `execblock setup` edits.

use std::{fs, path::Path, sync::LazyLock};

use execblock::lookup::{self, Found, LookupError, Place, Sources};
use execblock_hooks::known;

use serde_json::Value;

use crate::scratch;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the command's own file, of which a part is of use here"
)]
#[path = "../../plugin/src/engines/mod.rs"]
mod edited;

use edited::{EditError, containerd, crio, docker, hooks_d};

const WRAPPER: &str = "/usr/bin/execblock-runc";
const MOVED: &str = "/opt/execblock/bin/execblock-crun";

/// Reads the bytes as all of these files.
pub fn run(data: &[u8]) {
    let parts: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    // Files are slow to write: what is no JSON at all is a matter of serde_json.
    let is_json =
        |part: &&[u8]| serde_json::from_slice::<Value>(part).is_ok_and(|value| !value.is_number());
    if parts.iter().any(is_json) {
        kept(&parts);
    }
    of_containerd(&parts);
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    for version in [2, 3] {
        containerd_edits(text, version);
    }
    docker_edits(text);
    hooks_d_edits(text);
}

/// Files, one behind the other: of as many as there are parts, and then again from
/// the first.
const KEPT: [&str; 8] = [
    "docker/containers/c1/config.v2.json",
    "docker/containers/c1/hostconfig.json",
    "graph/overlay-containers/containers.json",
    "run/overlay-containers/c1/userdata/config.json",
    "run/overlay-containers/c1/userdata/pidfile",
    "runc/c1/state.json",
    "crun/c1/status",
    "crun/c1/config.json",
];

static OWN_START: LazyLock<String> = LazyLock::new(|| {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace()
        .nth(19)
        .unwrap_or("0")
        .to_owned()
});

fn kept(parts: &[&[u8]]) {
    // A process that lives, and a directory that is there.
    let bundle = scratch::path("crun/c1");
    let words = [
        (&b"@pid"[..], std::process::id().to_string()),
        (b"@start", OWN_START.clone()),
        (b"@bundle", bundle.display().to_string()),
    ];
    for (name, part) in KEPT.iter().zip(parts.iter().cycle()) {
        let content = words.iter().fold(part.to_vec(), |all, (word, value)| {
            replace(&all, word, value.as_bytes())
        });
        scratch::write(name, &content);
    }
    let root = scratch::path("x").with_file_name("");
    let sources = Sources {
        containerd: Vec::new(),
        docker: root.join("docker"),
        storage: root.join("graph"),
        storage_run: root.join("run"),
        runc: root.join("runc"),
        crun: root.join("crun"),
        run_dir: root.join("execblock"),
    };
    let (found, looked_at) = sources.list();
    assert_eq!(looked_at.len(), 5);
    for one in &found {
        check(one);
        let called = &one.owner.container;
        match sources.find(called) {
            Ok(again) => assert!(again.is_running()),
            // Its id may be the beginning of nothing but "cgroup:", or of others.
            Err(LookupError::NotFound { .. }) => assert!(called.is_empty(), "{called:?}"),
            Err(_) => {}
        }
    }
    for dir in ["runc", "crun"] {
        if let Some(container) = known::kept(&root.join(dir), "c1") {
            assert_eq!(container.owner.container, "c1");
            assert!(container.pid > 0);
        }
    }
}

fn replace(text: &[u8], word: &[u8], value: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(word) {
            replaced.extend_from_slice(value);
            rest = behind;
        } else {
            replaced.push(rest[0]);
            rest = &rest[1..];
        }
    }
    replaced
}

fn check(found: &Found) {
    let ours = found.annotations.keys();
    assert!(ours.into_iter().all(|key| key.starts_with("execblock/")));
    if let Place::Init { pid, .. } = found.place {
        assert!(pid > 0);
    }
}

/// An id, labels and the specification of a container.
fn of_containerd(parts: &[&[u8]]) {
    let [id, labels @ .., spec] = parts else {
        return;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let labels = labels.iter().filter_map(|label| {
        let label = text(label);
        let (key, value) = label.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    for namespace in ["k8s.io", "moby"] {
        if let Some(found) = lookup::of_containerd(text(id), labels.clone(), spec, namespace) {
            assert_eq!(found.owner.container, text(id));
            check(&found);
        }
    }
}

/// An edit applied twice is applied once, and what was there stays.
fn containerd_edits(text: &str, version: i64) {
    let shown = |error: &EditError| assert!(!error.to_string().is_empty());
    if let Err(error) = containerd::drop_in_dir(text) {
        shown(&error);
    }
    if let Ok(drop_in) = containerd::drop_in(text, WRAPPER) {
        assert_eq!(containerd::remove(Some(&drop_in)), Ok(None), "{drop_in}");
    }
    for wrapper in [None, Some(WRAPPER)] {
        let with = match containerd::add(Some(text), version, wrapper) {
            Ok(with) => with,
            Err(error) => {
                shown(&error);
                continue;
            }
        };
        assert_eq!(
            containerd::add(Some(&with), version, wrapper).as_ref(),
            Ok(&with)
        );
        let without = containerd::remove(Some(&with)).expect("what we wrote is understood");
        let untouched = containerd::remove(Some(text)) == Ok(Some(text.to_owned()));
        if untouched && !text.trim().is_empty() {
            assert_eq!(same(without.as_deref()), same(Some(text)), "{with}");
        }
        let moved = containerd::add(Some(&with), version, wrapper.map(|_| MOVED));
        let moved = moved.expect("our own runtime is followed");
        let moved: toml::Table = toml::from_str(&moved).expect("it is TOML");
        assert!(wrapper.is_none() || binary(&moved) == Some(MOVED));
    }
}

/// What a text says, where it is not given back letter by letter.
fn same(text: Option<&str>) -> Option<toml::Table> {
    text.map(|text| toml::from_str(text).expect("it is TOML"))
}

/// The binary of our runtime.
fn binary(config: &toml::Table) -> Option<&str> {
    let version = config.get("version")?.as_integer();
    let cri = match version {
        Some(2) => "io.containerd.grpc.v1.cri",
        _ => "io.containerd.cri.v1.runtime",
    };
    let runtimes = config.get("plugins")?.get(cri)?.get("containerd")?;
    let ours = runtimes.get("runtimes")?.get("execblock")?;
    ours.get("options")?.get("BinaryName")?.as_str()
}

fn docker_edits(text: &str) {
    for as_default in [false, true] {
        let Ok(with) = docker::add(Some(text), WRAPPER, as_default) else {
            continue;
        };
        assert_eq!(
            docker::add(Some(&with), WRAPPER, as_default).as_ref(),
            Ok(&with)
        );
        let value = |text: &str| -> Value {
            serde_json::from_str(text).unwrap_or_else(|_empty| serde_json::json!({}))
        };
        assert_eq!(value(&with)["runtimes"]["execblock"]["path"], WRAPPER);
        let without = docker::remove(Some(&with)).expect("what we wrote is understood");
        let mut before = value(text);
        let untouched = docker::remove(Some(text)) == Ok(Some(text.to_owned()));
        if untouched && let Some(map) = before.as_object_mut() {
            // Nothing is the same as an empty list, and as the usual default.
            map.retain(|key, value| {
                !(key == "runtimes" && value.as_object().is_some_and(serde_json::Map::is_empty)
                    || key == "default-runtime" && as_default)
            });
            assert_eq!(value(without.as_deref().unwrap_or("{}")), before, "{with}");
        }
    }
}

fn hooks_d_edits(text: &str) {
    hooks_d::is_ours(text);
    let podman = hooks_d::podman_dirs(text);
    let known = crio::Config {
        hooks_dir: podman.ok().flatten(),
        ..crio::Config::default()
    };
    for others in [Ok(known), crio::Config::parse(text)].into_iter().flatten() {
        let written = crio::Config::parse(&crio::drop_in(&others, true));
        let written = written.expect("what we wrote is understood");
        let dirs = written.hooks_dir.clone().expect("it has directories");
        for dir in others.hooks_dir.iter().flatten() {
            // A name that is no UTF-8 stands in no file of CRI-O's.
            assert!(dirs.contains(dir), "{} in {dirs:?}", dir.display());
        }
        assert!(dirs.iter().any(|dir| dir == Path::new(hooks_d::DIR)));
        assert!(written.requires_us());
    }
    if let Ok(hook) = hooks_d::hook_json(Path::new(text)) {
        let hook: Value = serde_json::from_str(&hook).expect("it is JSON");
        assert_eq!(hook["hook"]["path"], text);
    }
}
