//! The command line without the kernel's help: what is refused before anything
//! is touched.

use assert_cmd::Command;
use predicates::{prelude::PredicateBooleanExt as _, str::contains};

fn execblock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_execblock"))
}

#[test]
fn a_bad_rule_is_a_usage_error_that_names_position_and_expectation() {
    for (list, message) in [
        (
            "whoami,,id",
            "item 2 (\"\"): empty item, expected a name, an absolute path, a directory",
        ),
        (
            "./whoami",
            "item 1 (\"./whoami\"): relative path with a slash",
        ),
        ("who\u{7}ami", "control character"),
        ("", "empty list"),
        ("pyt*on", "'*' in the middle"),
        ("@nothing", "unknown group"),
    ] {
        execblock()
            .args(["run", "--deny", list, "--", "true"])
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains("execblock: --deny: ").and(contains(message)));
    }
    let long = "n".repeat(256);
    execblock()
        .args(["run", "--deny", &long, "--", "true"])
        .assert()
        .code(2)
        .stderr(contains("name of 256 bytes, expected at most 255"));
}

#[test]
fn a_bad_order_is_a_usage_error_and_looks_for_no_container() {
    for (arguments, message) in [
        (
            &["deny", "web", "./id"][..],
            "item 1 (\"./id\"): relative path",
        ),
        (
            &["allow", "web", "id", "a/b"],
            "item 2 (\"a/b\"): relative path",
        ),
        (&["deny", "web", "id", "--for", "0s"], "expected a time"),
        (&["deny", "web", "id", "--for", "soon"], "--for"),
        (&["deny", "web"], "ITEM"),
        (&["clear"], "CONTAINER"),
    ] {
        execblock()
            .args(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains(message));
    }
}

#[test]
fn run_wants_a_list_or_drift() {
    for (arguments, message) in [
        (&["run", "--", "true"][..], "--deny"),
        (
            &["run", "--drift", "off", "--", "true"],
            "--drift off: nothing would be refused",
        ),
        (
            &["run", "--drift", "on", "--", "true"],
            "expected deny, audit or off",
        ),
        (&["run", "--allow", "./id", "--", "true"], "--allow: item 1"),
        (&["run", "--allow", "", "--", "true"], "--allow: empty list"),
    ] {
        execblock()
            .args(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains(message));
    }
}

#[test]
fn why_never_says_denied_where_it_failed() {
    for arguments in [
        &["why"][..],
        &["why", "web"],
        &["why", "cgroup:/no/such", "id"],
        &["why", "no-such-container", "id"],
    ] {
        execblock()
            .args(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains("execblock").or(contains("Usage")));
    }
}

#[test]
fn what_clap_refuses_is_a_usage_error_too() {
    for arguments in [
        &["run", "--", "true"][..],
        &["run", "--deny", "whoami"],
        &[
            "run",
            "--deny",
            "whoami",
            "--mechanism",
            "magic",
            "--",
            "true",
        ],
        &["load", "--max-containers", "0"],
        &["nonsense"],
    ] {
        execblock().args(arguments).assert().code(2);
    }
    execblock().assert().code(2).stderr(contains("Usage"));
}

#[test]
fn help_tells_the_exit_statuses() {
    execblock()
        .arg("--help")
        .assert()
        .code(0)
        .stdout(contains("0 done, 1 failed, 2 usage, 3 this kernel can't"));
    execblock()
        .arg("--version")
        .assert()
        .code(0)
        .stdout(contains(env!("CARGO_PKG_VERSION")));
}

/// A root with an engine's files, and programs of ours to name.
fn setup(root: &std::path::Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    let program = env!("CARGO_BIN_EXE_execblock");
    let mut command = execblock();
    command.arg("setup").args(arguments);
    command.arg("--root").arg(root);
    // Any file that is there will do.
    command.args(["--wrapper", program, "--hook", program]);
    command.assert()
}

#[test]
fn setup_shows_a_diff_writes_once_and_takes_it_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let file = root.join("etc/docker/daemon.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let before = "{\n  \"debug\": true\n}\n";
    std::fs::write(&file, before).unwrap();
    let read = || std::fs::read_to_string(&file).unwrap();

    let shown = contains("+    \"execblock\"").and(contains("+++ "));
    setup(root, &["docker", "--dry-run"])
        .success()
        .stdout(shown);
    assert_eq!(read(), before);
    let next = contains("daemon.json.execblock-backup").and(contains("reload docker"));
    setup(root, &["docker"]).success().stdout(next);
    assert!(read().contains("execblock"));
    // The test's program is no wrapper by its name, so it is not followed.
    std::fs::write(
        &file,
        read().replace(env!("CARGO_BIN_EXE_execblock"), "/x/execblock-runc"),
    )
    .unwrap();
    setup(root, &["docker", "--remove"]).success();
    assert_eq!(read(), before);
    setup(root, &["docker", "--remove"])
        .success()
        .stdout("nothing to change\n");
}

#[test]
fn setup_writes_the_hook_where_podman_and_cri_o_look() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let own = root.join("etc/crio/crio.conf.d");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(
        own.join("10-site.conf"),
        "[crio.runtime]\nhooks_dir = [\"/site/hooks.d\"]\n",
    )
    .unwrap();
    setup(root, &["crio"])
        .success()
        .stdout(contains("restart crio"));
    let drop_in = std::fs::read_to_string(own.join("90-execblock.conf")).unwrap();
    assert!(
        drop_in.contains("[\"/site/hooks.d\", \"/etc/containers/oci/hooks.d\"]"),
        "{drop_in}"
    );
    let hook = root.join("etc/containers/oci/hooks.d/execblock.json");
    let text = std::fs::read_to_string(&hook).unwrap();
    assert!(text.contains("createRuntime") && text.contains(env!("CARGO_BIN_EXE_execblock")));
    // Where Podman looks by itself, or where it is told to.
    let hook = root.join("usr/share/containers/oci/hooks.d/execblock.json");
    setup(root, &["podman"]).success();
    std::fs::remove_file(&hook).unwrap();
    let told = root.join("etc/containers/containers.conf");
    std::fs::write(&told, "[engine]\nhooks_dir = [\"/a\", \"/b\"]\n").unwrap();
    setup(root, &["podman"]).success();
    std::fs::remove_file(root.join("b/execblock.json")).unwrap();
    std::fs::remove_file(&told).unwrap();
    // A hook of somebody else's is left alone.
    std::fs::write(&hook, "{\"hook\": {\"path\": \"/other\"}}").unwrap();
    setup(root, &["podman"])
        .code(1)
        .stderr(contains("is not execblock-hook"));
}

#[test]
fn setup_uses_the_drop_ins_that_containerd_2_imports() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let main = root.join("etc/containerd/config.toml");
    std::fs::create_dir_all(main.parent().unwrap()).unwrap();
    let text = "version = 3\nimports = [\"conf.d/*.toml\"]\n";
    std::fs::write(&main, text).unwrap();
    setup(root, &["containerd"]).success();
    assert_eq!(std::fs::read_to_string(&main).unwrap(), text);
    let drop_in = root.join("etc/containerd/conf.d/90-execblock.toml");
    let written = std::fs::read_to_string(&drop_in).unwrap();
    assert!(written.contains("runtimes.execblock.options"), "{written}");
    setup(root, &["containerd"])
        .success()
        .stdout("nothing to change\n");
    // Named as an installed wrapper is.
    let own = env!("CARGO_BIN_EXE_execblock");
    std::fs::write(&drop_in, written.replace(own, "/x/execblock-runc")).unwrap();
    setup(root, &["containerd", "--remove"]).success();
    assert!(!drop_in.exists());
}

#[test]
fn setup_requires_the_plugin_and_says_who_must_tolerate() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let main = root.join("etc/containerd/config.toml");
    std::fs::create_dir_all(main.parent().unwrap()).unwrap();
    let text = "version = 3\nimports = [\"conf.d/*.toml\"]\n";
    std::fs::write(&main, text).unwrap();
    let read = || std::fs::read_to_string(&main).unwrap();
    let shown = contains("+required_plugins = [\"execblock\"]");
    setup(root, &["containerd", "--required", "--dry-run"])
        .success()
        .stdout(shown);
    assert_eq!(read(), text);
    let told = contains("execblock.dev/tolerate-missing: \"true\"").and(contains("static pods"));
    setup(root, &["containerd", "--required"])
        .success()
        .stdout(told);
    // Once required it stays so.
    setup(root, &["containerd"])
        .success()
        .stdout("nothing to change\n");
    setup(root, &["containerd", "--required", "--remove"]).success();
    assert_eq!(read(), text);
    assert!(
        root.join("etc/containerd/conf.d/90-execblock.toml")
            .exists()
    );

    let crio = root.join("etc/crio/crio.conf.d/90-execblock.conf");
    let requires = || {
        let text = std::fs::read_to_string(&crio).unwrap();
        text.contains("nri_validator_required_plugins = [\"a\", \"execblock\"]")
    };
    std::fs::create_dir_all(crio.parent().unwrap()).unwrap();
    std::fs::write(
        crio.with_file_name("10-site.conf"),
        "[crio.nri.default_validator]\nnri_validator_required_plugins = [\"a\"]\n",
    )
    .unwrap();
    setup(root, &["crio", "--required"])
        .success()
        .stdout(contains("execblock.dev/tolerate-missing"));
    assert!(requires());
    // The test's program is no hook by its name, so its file is not followed.
    let hook = root.join("etc/containers/oci/hooks.d/execblock.json");
    std::fs::remove_file(&hook).unwrap();
    setup(root, &["crio"]).success();
    assert!(requires(), "once required it stays so");
    std::fs::remove_file(&hook).unwrap();
    setup(root, &["crio", "--required", "--remove"]).success();
    assert!(crio.exists() && !requires());
    // One that is read later would win.
    std::fs::write(
        crio.with_file_name("99-last.conf"),
        "[crio.nri.default_validator]\nnri_validator_required_plugins = []\n",
    )
    .unwrap();
    setup(root, &["crio"]).success();
    setup(root, &["crio", "--required"])
        .code(1)
        .stderr(contains("add \"execblock\" to it"));
    setup(root, &["docker", "--required"])
        .code(1)
        .stderr(contains("--required is for containerd and CRI-O"));
}

#[test]
fn setup_changes_nothing_that_it_does_not_understand() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let file = root.join("config.toml");
    std::fs::write(&file, "version = 1\n").unwrap();
    let config = file.to_str().unwrap();
    setup(root, &["containerd", "--config", config])
        .code(1)
        .stderr(
            contains("version: found 1, expected version = 2").and(contains("nothing was changed")),
        );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "version = 1\n");
    setup(root, &["lxc"]).code(2);
}

/// A pod with these annotations, as lines of YAML.
fn pod(annotations: &str) -> std::io::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    let text = format!(
        "kind: Pod\nmetadata:\n  annotations:\n    {annotations}\nspec:\n  containers:\n  - name: \
         web\n    command: [whoami]\n"
    );
    std::fs::write(file.path(), text)?;
    Ok(file)
}

fn lint(arguments: &[&str]) -> assert_cmd::assert::Assert {
    execblock()
        .args(["lint", "--config-dir", "/nonexistent"])
        .args(arguments)
        .assert()
}

#[test]
fn lint_names_file_line_and_item() {
    let wrong = pod("execblock/deny: whoami, ./id").unwrap();
    let path = wrong.path().to_str().unwrap();
    lint(&[path]).code(1).stdout(contains(format!(
        "{path}:4: error: annotation execblock/deny: item 2 (\"./id\"): relative path"
    )));
    let breaks = pod("execblock/deny: whoami").unwrap();
    let path = breaks.path().to_str().unwrap();
    let warning =
        "warning: container \"web\": its command runs whoami, which the rule whoami denies";
    lint(&[path]).code(0).stdout(contains(warning));
    lint(&["--strict", path]).code(1).stdout(contains(warning));
    let clean = pod("execblock/drift: deny").unwrap();
    lint(&["--strict", clean.path().to_str().unwrap()])
        .code(0)
        .stdout("");
}

#[test]
fn lint_reads_pairs_standard_input_and_toml_and_tells_programs() {
    lint(&["execblock/deny=curl,,id"]).code(1).stdout(
        "error: annotation execblock/deny: item 2 (\"\"): empty item, expected a name, an \
                 absolute path, a directory or a group\n",
    );
    let output = execblock()
        .args(["lint", "--json", "--config-dir", "/nonexistent", "-"])
        .write_stdin("kind: Pod\nmetadata:\n  annotations: {execblock/drift: on}\n")
        .assert()
        .code(1);
    let found: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(found[0]["file"], "-");
    assert_eq!(
        (found[0]["line"].as_u64(), &found[0]["level"]),
        (Some(3), &"error".into())
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[[default]]\nname = \"a\"\ndeny = \"x/y\"\n").unwrap();
    lint(&[file.to_str().unwrap()])
        .code(1)
        .stdout(contains("config.toml:3: error: item 1 (\"x/y\")"));
    std::fs::write(&file, "[metrics]\nlissten = \"127.0.0.1:9643\"\n").unwrap();
    lint(&[file.to_str().unwrap()])
        .code(1)
        .stdout(contains("config.toml:2: error: unknown field `lissten`"));
    lint(&["/nonexistent/pod.yaml"])
        .code(1)
        .stdout("")
        .stderr(contains("expected a file of YAML or TOML, or KEY=VALUE"));
    execblock().arg("lint").assert().code(2);
}

#[test]
fn groups_are_printed() {
    execblock()
        .arg("groups")
        .assert()
        .code(0)
        .stdout(contains("@shells").and(contains("@interpreters")));
    for name in ["shells", "@shells"] {
        execblock()
            .args(["groups", name])
            .assert()
            .code(0)
            .stdout(contains("bash\n"));
    }
    execblock()
        .args(["groups", "@nothing"])
        .assert()
        .code(2)
        .stderr(contains("expected one of @shells"));
    let output = execblock().args(["groups", "--json"]).assert().code(0);
    let all: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(all[0]["name"], "@shells");
    assert!(all[0]["members"].as_array().unwrap().len() > 20);
}

#[test]
fn every_shell_completes_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = execblock().args(["completions", shell]).assert().success();
        let script = String::from_utf8_lossy(&script.get_output().stdout).into_owned();
        for word in ["deny", "status", "--for", "doctor"] {
            let word = if shell == "fish" {
                word.trim_start_matches('-')
            } else {
                word
            };
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    execblock().args(["completions", "dos"]).assert().code(2);
}

/// What a shell would offer, as it calls the script.
#[test]
fn bash_completes_a_command_by_its_beginning() {
    let script = execblock().args(["completions", "bash"]).output().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("execblock");
    std::fs::write(&file, script.stdout).unwrap();
    let ask = "source \"$1\"; COMP_WORDS=(execblock de); COMP_CWORD=1; \
               _execblock execblock de execblock; echo \"${COMPREPLY[@]}\"";
    Command::new("bash")
        .args(["-c", ask, "bash"])
        .arg(&file)
        .assert()
        .success()
        .stdout("deny\n");
}

#[test]
fn each_command_that_is_shown_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    execblock().arg("manual").arg(&pages).assert().success();
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("execblock.1").contains("execblock\\-deny(1)"));
    let deny = page("execblock-deny.1");
    assert!(
        deny.starts_with(".ie") && deny.contains(".TH execblock-deny 1"),
        "{deny}"
    );
    assert!(!pages.join("execblock-manual.1").exists());
    execblock()
        .args(["manual", "/dev/null/x"])
        .assert()
        .code(1)
        .stderr(contains("/dev/null/x: "));
}
