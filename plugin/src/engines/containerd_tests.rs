//! Tests of containerd's configuration, on files as they are met.

use super::*;

const WRAPPER: &str = "/usr/bin/execblock-runc";

/// Debian's of containerd 1.6 and 1.7.
const DEBIAN: &str = r#"version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"#;

/// As kubeadm's users have it, with comments, and NRI switched off by default.
const KUBEADM: &str = r#"# managed by ansible
version = 2
root = "/var/lib/containerd"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.9" # keep

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["io.example/*"]

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true

[plugins."io.containerd.nri.v1.nri"]
  disable = true
  disable_connections = false
"#;

/// As nvidia-ctk leaves it.
const NVIDIA: &str = r#"imports = ["/etc/containerd/conf.d/*.toml"]
version = 3

[plugins]

  [plugins.'io.containerd.cri.v1.runtime']

    [plugins.'io.containerd.cri.v1.runtime'.containerd]
      default_runtime_name = "nvidia"

      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]

        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_type = "io.containerd.runc.v2"

          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
"#;

const ALL: [&str; 4] = [DEBIAN, KUBEADM, NVIDIA, "version = 3\n"];

fn added(text: &str) -> String {
    add(Some(text), 2, Some(WRAPPER)).unwrap()
}

fn get<'a>(document: &'a DocumentMut, keys: &[&str]) -> &'a Item {
    keys.iter().fold(document.as_item(), |item, key| &item[key])
}

#[test]
fn setup_twice_is_setup_once_and_remove_gives_the_file_back() {
    for text in ALL {
        let with = added(text);
        assert_ne!(with, text);
        assert_eq!(added(&with), with, "idempotent");
        assert_eq!(
            remove(Some(&with)).unwrap().as_deref(),
            Some(text),
            "{with}"
        );
        assert_eq!(remove(Some(text)).unwrap().as_deref(), Some(text));
    }
}

#[test]
fn every_line_that_was_there_stays() {
    for text in ALL {
        let with = added(text);
        for line in text.lines().filter(|line| !line.contains("disable = true")) {
            assert!(
                with.lines().any(|other| other == line),
                "{line:?} in\n{with}"
            );
        }
    }
}

#[test]
fn the_runtime_is_like_runc() {
    let document: DocumentMut = added(KUBEADM).parse().unwrap();
    let keys = ["plugins", cri(2), "containerd", "runtimes", "execblock"];
    let runtime = get(&document, &keys);
    assert_eq!(
        runtime["runtime_type"].as_str(),
        Some("io.containerd.runc.v2")
    );
    assert_eq!(runtime["options"]["SystemdCgroup"].as_bool(), Some(true));
    assert_eq!(runtime["options"]["BinaryName"].as_str(), Some(WRAPPER));
    let patterns = runtime["pod_annotations"].as_array().unwrap();
    let patterns: Vec<_> = patterns.iter().filter_map(Value::as_str).collect();
    assert_eq!(patterns, ["io.example/*", "execblock/*"]);
}

#[test]
fn nri_is_on_and_comes_back_as_it_was() {
    for (text, disabled) in [
        (DEBIAN, Some(false)),
        (KUBEADM, Some(false)),
        (NVIDIA, None),
    ] {
        let document: DocumentMut = added(text).parse().unwrap();
        let nri = document["plugins"].get(NRI);
        let found = nri.and_then(|nri| nri.get("disable")?.as_bool());
        assert_eq!(found, disabled, "{text}");
    }
    let off = "version = 3\n[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = true\n";
    assert!(added(off).contains("disable = false"));
}

#[test]
fn no_file_becomes_one_and_goes_again() {
    for version in [2, 3] {
        let with = add(None, version, Some(WRAPPER)).unwrap();
        assert!(
            with.starts_with(&format!("{NEW}version = {version}\n")),
            "{with}"
        );
        assert_eq!(add(Some(&with), version, Some(WRAPPER)).unwrap(), with);
        assert_eq!(remove(Some(&with)).unwrap(), None, "{with}");
    }
}

#[test]
fn a_wrapper_that_moved_is_followed() {
    let moved = add(Some(&added(KUBEADM)), 2, Some("/opt/bin/execblock-runc")).unwrap();
    assert!(moved.contains("/opt/bin/execblock-runc") && !moved.contains(WRAPPER));
}

#[test]
fn what_is_not_understood_is_refused() {
    let runtimes = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
    for (text, part) in [
        ("[plugins.cri]\n".to_owned(), "version: found none"),
        ("version = 1\n".into(), "version: found 1"),
        ("version = 4\n".into(), "version: found 4"),
        ("version = \"2\"\n".into(), "version: found \"2\""),
        ("version = 2\nplugins = 3\n".into(), "[plugins]: found"),
        ("version = 2\n[plugins\n".into(), "line 2"),
        (
            format!("version = 2\n[{runtimes}.execblock.options]\nBinaryName = \"/other\"\n"),
            "BinaryName Some(\"/other\")",
        ),
        (
            "version = 2\n[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = 1\n".into(),
            "expected true or false",
        ),
        (
            "version = 2\nplugins = {}\n".into(),
            "[plugins]: found a table in braces",
        ),
        (
            "version = 2\n[plugins]\n\"io.containerd.nri.v1.nri\" = { disable = true }\n".into(),
            "nri.v1.nri]: found a table in braces",
        ),
        (
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\ncontainerd = { runtimes = {} }\n"
                .into(),
            "[containerd]: found a table in braces",
        ),
    ] {
        let error = add(Some(&text), 2, Some(WRAPPER)).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_drop_in_has_the_runtime_and_the_main_file_stays() {
    let dir = drop_in_dir(NVIDIA).unwrap();
    assert_eq!(dir, Some("/etc/containerd/conf.d".into()));
    assert_eq!(add(Some(NVIDIA), 3, None).unwrap(), NVIDIA);
    let main = NVIDIA.replace("runtimes.nvidia", "runtimes.runc");
    let text = drop_in(&main, WRAPPER).unwrap();
    let document: DocumentMut = text.parse().unwrap();
    let keys = ["plugins", cri(3), "containerd", "runtimes", "execblock"];
    let runtime = get(&document, &keys);
    assert_eq!(runtime["options"]["BinaryName"].as_str(), Some(WRAPPER));
    let privileged = &runtime["privileged_without_host_devices"];
    assert_eq!(privileged.as_bool(), Some(false), "as runc has it");
    assert_eq!(remove(Some(&text)).unwrap(), None, "nothing else is in it");
    // In containerd 1 it would replace the whole table of the plugin.
    let old = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    assert_eq!(drop_in_dir(old).unwrap(), None);
    for other in ["[]", "[\"/etc/containerd/one.toml\"]"] {
        let text = format!("version = 3\nimports = {other}\n");
        assert_eq!(drop_in_dir(&text).unwrap(), None);
    }
}
