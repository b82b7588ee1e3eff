//! What users meet when something is wrong: the words, the next step, the exit status. Nothing of
//! this machine is seen: no pins, no engines, no files of `/etc`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use execblock::kernel::PinError;
use insta::assert_snapshot;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_execblock");

/// What the shell does in namespaces of its own before it becomes the program.
const HIDE: &str = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && \
                    mount --bind \"$1\" /etc && shift && exec \"$@\"";

/// The command's output and exit status, as root of a machine with nothing on it.
fn as_root(etc: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            HIDE,
            "sh",
        ])
        .arg(etc)
        .arg(PROGRAM)
        .args(arguments);
    said(&mut command)
}

/// The same as somebody who is not root.
fn as_user(arguments: &[&str]) -> String {
    let mut command = Command::new("unshare");
    command.args(["--user", PROGRAM]).args(arguments);
    said(&mut command)
}

fn plain(arguments: &[&str]) -> String {
    said(Command::new(PROGRAM).args(arguments))
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}{}exit status {}\n",
        text(&output.stdout),
        text(&output.stderr),
        output.status.code().unwrap()
    )
}

/// Why namespaces can't be had here, which is no fault of ours.
fn no_namespaces() -> Option<String> {
    let etc = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            HIDE,
            "sh",
        ])
        .arg(etc.path())
        .arg("/bin/true");
    let said = said(&mut command);
    (said != "exit status 0\n").then_some(said)
}

/// A folder that stands for `/etc`, with this as our configuration.
fn etc(config: &str) -> TempDir {
    let etc = TempDir::new().unwrap();
    let folder = etc.path().join("execblock");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
    etc
}

#[test]
fn annotations() {
    for (name, pairs) in [
        ("unknown key", &["execblock/deni=whoami"][..]),
        ("relative path", &["execblock/deny=whoami, ./id"]),
        ("unknown group", &["execblock/allow=sh,@shels"]),
        ("unknown mode", &["execblock/mode=strict"]),
        ("profile missing", &["execblock/profile=web"]),
    ] {
        let node = TempDir::new().unwrap();
        fs::create_dir(node.path().join("profiles")).unwrap();
        let folder = node.path().to_str().unwrap();
        let said = plain(&[&["lint", "--config-dir", folder], pairs].concat());
        assert_snapshot!(
            format!("annotation {name}").replace(' ', "-"),
            said.replace(folder, "/etc/execblock")
        );
    }
}

#[test]
fn usage() {
    for (name, arguments) in [
        ("no command", &["run", "--deny", "whoami"][..]),
        ("unknown command", &["dney", "web", "whoami"]),
        ("unknown mechanism", &["load", "--mechanism", "ebpf"]),
        ("bad item", &["deny", "web", "./id"]),
    ] {
        assert_snapshot!(format!("usage {name}").replace(' ', "-"), plain(arguments));
    }
}

/// Of a machine where something is loaded: the words alone, whatever the versions are.
#[test]
fn pins() {
    let dir = PathBuf::from(execblock::kernel::PIN_DIR);
    let abi = plugin_common::ABI;
    let mut texts = vec![PinError::NotLoaded(dir.clone()).to_string()];
    for found in [1, abi - 1, abi + 1] {
        let error = PinError::Abi {
            dir: dir.clone(),
            found,
        };
        let text = error.to_string();
        assert!(
            text.contains(&format!("version {found}, expected {abi}")),
            "{text}"
        );
        texts.push(text.replace(&format!("{found}, expected {abi}"), "N, expected M"));
    }
    assert_snapshot!("pins", texts.join("\n"));
}

#[test]
fn without_root() {
    if let Some(reason) = no_namespaces() {
        eprintln!("skipped: no namespaces here: {reason}");
        return;
    }
    for arguments in [
        &["setup", "docker"][..],
        &["load"],
        &["run", "--deny", "id", "--", "true"],
        &["deny", "no-such-container", "id"],
    ] {
        let said = as_user(arguments);
        assert!(said.contains("root"), "{said}");
        assert!(said.ends_with("exit status 1\n"), "{said}");
    }
}

#[test]
fn with_nothing_there() {
    if let Some(reason) = no_namespaces() {
        eprintln!("skipped: no namespaces here: {reason}");
        return;
    }
    let empty = etc("");
    assert_snapshot!(
        "unknown-container",
        as_root(empty.path(), &["deny", "web", "whoami"])
    );
    for (name, config) in [
        ("unknown field", "[metrics]\nlissten = \"127.0.0.1:9643\"\n"),
        ("no TOML", "[metrics\n"),
    ] {
        let etc = etc(config);
        assert_snapshot!(
            format!("configuration {name} lint").replace(' ', "-"),
            as_root(etc.path(), &["lint", "/etc/execblock/config.toml"])
        );
    }
    let etc = etc("[metrics]\nlissten = \"127.0.0.1:9643\"\n");
    assert_snapshot!("configuration-daemon", as_root(etc.path(), &["nri"]));
}
