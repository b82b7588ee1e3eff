//! Each setting, and each way to get one wrong.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn said(text: &str) -> String {
    Settings::parse(text).unwrap_err().to_string()
}

#[test]
fn what_is_absent_has_its_default() {
    let other = "[[default]]\nname = \"a\"\ndeny = \"id\"\n[wrapper]\nruntime = \"crun\"\n";
    for text in [
        "",
        other,
        "[log]\n[metrics]\n[events]\n[kubernetes]\n[nri]\n",
    ] {
        assert_eq!(Settings::parse(text).unwrap(), Settings::default());
    }
    assert_eq!(Settings::default().metrics.listen, None);
    assert_eq!(Settings::default().journal_bytes, 8_388_608);
}

#[test]
fn all_are_read() {
    let text = "[log]\nformat = \"json\"\n\
                [metrics]\nlisten = \"127.0.0.1:9643\"\ncontainer_labels = true\n\
                rule_labels = true\n\
                [events]\njournal_bytes = 65536\n[kubernetes]\nevents = false\n\
                [nri]\ninject_hook = true\nhook = \"/opt/x/execblock-hook\"\n";
    let expected = Settings {
        format: Format::Json,
        metrics: Exposed {
            listen: Some(Listen::Tcp("127.0.0.1:9643".parse().unwrap())),
            container_labels: true,
            rule_labels: true,
        },
        journal_bytes: 65_536,
        kubernetes_events: false,
        injection: Injection::At("/opt/x/execblock-hook".to_owned()),
    };
    assert_eq!(Settings::parse(text).unwrap(), expected);
}

#[test]
fn the_example_is_understood() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let settings = Settings::read(&Node::unchecked(examples)).unwrap();
    assert_eq!(settings.format, Format::Json);
    assert!(settings.metrics.container_labels && !settings.metrics.rule_labels);
    assert_eq!(settings.journal_bytes, 16 << 20);
    assert_eq!(settings.injection, Injection::Usual);
}

#[test]
fn a_place_to_listen_is_an_address_or_a_path() {
    for text in [
        "[::1]:9643",
        "0.0.0.0:80",
        "unix:/run/execblock/metrics.sock",
    ] {
        let listen: Listen = text.parse().unwrap();
        assert_eq!(listen.to_string(), text);
    }
    for text in [
        "",
        "9643",
        "localhost:9643",
        "127.0.0.1",
        "unix:",
        "unix:here",
    ] {
        let error = Listen::from_str(text).unwrap_err();
        assert!(error.contains("expected ADDRESS:PORT"), "{text}: {error}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_expected() {
    for (text, line, key, expected) in [
        ("[log]\nfromat = \"json\"", 2, "fromat", "format"),
        (
            "\n[metrics]\n\nlissten = 1",
            4,
            "lissten",
            "expected one of `listen`, `container_labels`, `rule_labels`",
        ),
        ("[events]\nbytes = 1", 2, "bytes", "journal_bytes"),
        ("[kubernetes]\nevent = true", 2, "event", "events"),
        (
            "[nri]\ninject = true",
            2,
            "inject",
            "expected `inject_hook` or `hook`",
        ),
    ] {
        let said = said(text);
        assert!(said.starts_with(&format!("line {line}: ")), "{said}");
        assert!(said.contains(&format!("`{key}`")), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_what_was_expected() {
    for (text, expected) in [
        (
            "[log]\nformat = \"xml\"",
            "line 2: log.format = \"xml\": expected \"text\" or \"json\"",
        ),
        (
            "[log]\nformat = 1",
            "line 2: log.format = 1: expected \"text\" or \"json\"",
        ),
        (
            "[metrics]\nlisten = \"9643\"",
            "line 2: metrics.listen = \"9643\": expected ADDRESS:PORT, such as 127.0.0.1:9643, \
             or unix:/PATH",
        ),
        (
            "[metrics]\nlisten = 9643",
            "line 2: metrics.listen = 9643: expected ADDRESS:PORT, such as 127.0.0.1:9643, or \
             unix:/PATH",
        ),
        (
            "[metrics]\n\ncontainer_labels = \"yes\"",
            "line 3: metrics.container_labels = \"yes\": expected true or false",
        ),
        (
            "[metrics]\nrule_labels = 1",
            "line 2: metrics.rule_labels = 1: expected true or false",
        ),
        (
            "[events]\njournal_bytes = 65535",
            "line 2: events.journal_bytes = 65535: expected a number of bytes from 65536 to \
             1073741824",
        ),
        (
            "[events]\njournal_bytes = -1",
            "line 2: events.journal_bytes = -1: expected a number of bytes from 65536 to \
             1073741824",
        ),
        (
            "[nri]\ninject_hook = 1",
            "line 2: nri.inject_hook = 1: expected true or false",
        ),
        (
            "[nri]\ninject_hook = true\nhook = \"execblock-hook\"",
            "line 3: nri.hook = \"execblock-hook\": expected the absolute path of execblock-hook",
        ),
        (
            "[kubernetes]\nevents = \"yes\"",
            "line 2: kubernetes.events = \"yes\": expected true or false",
        ),
    ] {
        assert_eq!(said(text), expected);
    }
    let table = said("log = 1");
    assert!(
        table.contains("expected struct") || table.contains("expected"),
        "{table}"
    );
}

#[test]
fn kubernetes_events_are_an_error_where_they_are_not_built_in() {
    let text = "[kubernetes]\nevents = true";
    if cfg!(feature = "kubernetes") {
        assert!(Settings::parse(text).unwrap().kubernetes_events);
    } else {
        assert_eq!(
            said(text),
            "line 2: kubernetes.events = true: not built in, expected false"
        );
    }
}

#[test]
fn a_value_cannot_forge_a_line() {
    let said = said("[log]\nformat = \"\"\"a\nforged\"\"\"");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_file_of_somebody_elses_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let text = "[log]\nformat = \"json\"\n";
    let read = || Settings::read(&Node::unchecked(dir.path()));
    assert_eq!(read().unwrap(), Settings::default());
    fs::write(&path, text).unwrap();
    assert_eq!(read().unwrap().format, Format::Json);
    // No node can be made that trusts another directory, and no test may write
    // to the real one; a directory in place of the file is refused by all.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(read(), Err(SettingsError::File(_))));
}

#[test]
fn what_is_wrong_elsewhere_in_the_file_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let read = || Settings::read(&Node::unchecked(dir.path()));
    fs::write(&path, "[[default]\nname").unwrap();
    assert!(matches!(read(), Err(SettingsError::File(_))));
    fs::write(&path, "[[default]]\nnme = 1\n").unwrap();
    assert_eq!(read().unwrap(), Settings::default());
    fs::write(&path, "[metrics]\nlissten = 1\n").unwrap();
    let error = read().unwrap_err();
    assert!(matches!(error, SettingsError::Table(_)));
    let said = error.to_string();
    assert!(
        said.contains("config.toml: line 2: unknown field `lissten`"),
        "{said}"
    );
}

#[test]
fn a_hook_is_injected_where_that_is_asked_for() {
    for (text, expected) in [
        ("[nri]\ninject_hook = true", Injection::Usual),
        ("[nri]\ninject_hook = false", Injection::Off),
        ("[nri]\nhook = \"/x\"", Injection::Off),
    ] {
        assert_eq!(Settings::parse(text).unwrap().injection, expected, "{text}");
    }
}
