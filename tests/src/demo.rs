//! What `install.sh --demo` shows where a containerd is on the machine: a pod with an annotation,
//! in a containerd of its own, so that the machine's is neither configured nor restarted.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::containerd::{self, Place};
use crate::cri_client::{ContainerSpec, CriClient, LinuxPod, PodConfig, PodMetadata, PodSecurity};
use crate::process::{self, LogFile};
use crate::protocol;

const DIR: &str = "/run/execblock-demo";
const STATE: &str = "/var/lib/execblock-demo";
const LIMIT: Duration = Duration::from_mins(1);
const ANNOTATION: (&str, &str) = ("execblock/deny", "whoami");

/// A process that ends with this one's scope.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let ended = process::pid_of(&self.0)
            .and_then(|pid| process::signal(pid, Signal::TERM))
            .and_then(|()| process::wait_within(&mut self.0, LIMIT));
        if let Err(error) = ended {
            say(&format!("ending a daemon: {error:#}"));
        }
    }
}

impl Daemon {
    /// Its output goes to a log, which is returned.
    fn start(command: &mut Command, name: &str) -> Result<(Self, PathBuf)> {
        let path = PathBuf::from(format!("{DIR}/{name}.log"));
        let log = File::create(&path)?;
        command.stdout(log.try_clone()?).stderr(log);
        Ok((Self(command.spawn().context(name.to_owned())?), path))
    }
}

/// Removes what a demo leaves, also one that was killed.
struct Folders;

impl Folders {
    fn make() -> Result<Self> {
        drop(Self);
        for dir in [DIR, STATE] {
            fs::create_dir_all(dir)?;
        }
        Ok(Self)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for dir in [DIR, STATE] {
            if Path::new(dir).exists()
                && let Err(error) = fs::remove_dir_all(dir)
            {
                say(&format!("removing {dir}: {error}"));
            }
        }
    }
}

pub(crate) fn run(execblock: &str) -> Result<()> {
    protocol::without_log();
    let version = containerd::version()?;
    if !has_nri(&version) {
        say(&format!(
            "containerd {version} has no NRI, 1.7 or later has: the pod is left out"
        ));
        return Ok(());
    }
    say(&format!("containerd {version}"));
    let _folders = Folders::make()?;
    let nri_socket = format!("{DIR}/nri.sock");
    let place = Place {
        state: STATE,
        run: DIR,
        nri_socket: &nri_socket,
    };
    let config = format!("{DIR}/config.toml");
    fs::write(
        &config,
        containerd::config(&place, containerd::major_version()?),
    )?;
    let (_containerd, log) = Daemon::start(
        Command::new("containerd").args(["--config", &config]),
        "containerd",
    )?;
    let socket = place.socket();
    let client = process::until(LIMIT, "containerd to answer", || {
        let client = CriClient::connect(Path::new(&socket))?;
        client.version()?;
        Ok(Some(client))
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    containerd::import_image(&place, &client)?;

    let mut registered = LogFile::from_here(Path::new(&format!("{DIR}/plugin.log")));
    let (_plugin, log) = Daemon::start(
        Command::new(execblock).args(["nri", "--socket", &nri_socket]),
        "plugin",
    )?;
    registered.wait_for(LIMIT, "the plugin to register", |line| {
        line.contains("registered")
    })?;
    pod(&client)?;
    for line in fs::read_to_string(&log)?.lines() {
        say(&format!("  {line}"));
    }
    Ok(())
}

fn pod(client: &CriClient) -> Result<()> {
    let config = PodConfig {
        metadata: Some(PodMetadata {
            name: "web".to_owned(),
            uid: "demo".to_owned(),
            namespace: "default".to_owned(),
        }),
        log_directory: DIR.to_owned(),
        annotations: HashMap::from([(ANNOTATION.0.to_owned(), ANNOTATION.1.to_owned())]),
        linux: Some(LinuxPod {
            cgroup_parent: "/execblock-demo".to_owned(),
            security_context: Some(PodSecurity::on_host_network(false)),
        }),
    };
    let pod = client.run_pod(&config, "runc")?;
    let result = container(client, &pod, &config);
    client.remove_pod(&pod)?;
    result
}

fn container(client: &CriClient, pod: &str, config: &PodConfig) -> Result<()> {
    let spec = ContainerSpec {
        name: "app".to_owned(),
        image: containerd::IMAGE.to_owned(),
        command: vec!["/bin/sleep".to_owned(), "1000000".to_owned()],
        annotations: HashMap::new(),
        privileged: false,
    };
    let container = client.create(pod, config, spec)?;
    client.start(&container)?;
    say(&format!(
        "pod web, annotated {}={}",
        ANNOTATION.0, ANNOTATION.1
    ));
    let mut refused = true;
    for command in [&["id", "-un"][..], &["whoami"], &["/usr/bin/whoami"]] {
        let (ran, text) = match client.exec(&container, command) {
            Ok(reply) => (reply.code == 0, reply.said()),
            Err(error) => (false, format!("{error:#}")),
        };
        say(&format!(
            "  exec {}: {}",
            command.join(" "),
            text.trim_end()
        ));
        refused &= ran == (command[0] == "id");
    }
    ensure!(refused, "that is not what the annotation asks for");
    Ok(())
}

/// 1.7 was the first.
fn has_nri(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(1), Some(7))
}

fn say(line: &str) {
    protocol::write_stdout(&format!("{line}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_containerd_with_nri_is_1_7() {
        for (version, expected) in [("1.6.20~ds1", false), ("1.7.24~ds1", true), ("2.1.9", true)] {
            assert_eq!(has_nri(version), expected, "{version}");
        }
    }
}
