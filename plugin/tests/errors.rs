//! What users meet when something is wrong: the words, the next step, the exit status. Nothing of
//! this machine is seen: no pins, no engines, no files of `/etc`.

use std::{
    fs,
    io::{self, Write as _},
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
    said(alone(etc).arg(PROGRAM).args(arguments))
}

/// The same as somebody who is not root.
fn as_user(arguments: &[&str]) -> String {
    let mut command = Command::new("unshare");
    said(command.args(["--user", PROGRAM]).args(arguments))
}

fn plain(arguments: &[&str]) -> String {
    said(Command::new(PROGRAM).args(arguments))
}

/// Puts what follows into namespaces of its own.
fn alone(etc: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount"])
        .args(["sh", "-c", HIDE, "sh"])
        .arg(etc);
    command
}

fn said(command: &mut Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return format!("{command:?}: {error}"),
    };
    format!(
        "{}{}{}\n",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output
            .status
            .to_string()
            .replace("exit status:", "exit status")
    )
}

/// Whether namespaces can be had here. That they can't be is no fault of ours.
fn has_namespaces() -> io::Result<bool> {
    let etc = TempDir::new()?;
    let said = said(alone(etc.path()).arg("/bin/true"));
    if said != "exit status 0\n" {
        writeln!(io::stderr(), "skipped, no namespaces here: {said}")?;
    }
    Ok(said == "exit status 0\n")
}

/// A folder that stands for `/etc`, with this as our configuration.
fn etc(config: &str) -> io::Result<TempDir> {
    let etc = TempDir::new()?;
    let folder = etc.path().join("execblock");
    fs::create_dir(&folder)?;
    fs::write(folder.join("config.toml"), config)?;
    Ok(etc)
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
    if !has_namespaces().unwrap() {
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
    if !has_namespaces().unwrap() {
        return;
    }
    let empty = etc("").unwrap();
    assert_snapshot!(
        "unknown-container",
        as_root(empty.path(), &["deny", "web", "whoami"])
    );
    for (name, config) in [
        ("unknown field", "[metrics]\nlissten = \"127.0.0.1:9643\"\n"),
        ("no TOML", "[metrics\n"),
    ] {
        let etc = etc(config).unwrap();
        assert_snapshot!(
            format!("configuration {name} lint").replace(' ', "-"),
            as_root(etc.path(), &["lint", "/etc/execblock/config.toml"])
        );
    }
    let etc = etc("[metrics]\nlissten = \"127.0.0.1:9643\"\n").unwrap();
    assert_snapshot!("configuration-daemon", as_root(etc.path(), &["nri"]));
}
