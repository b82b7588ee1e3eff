//! What `install.sh --demo` shows where a containerd is on the machine: a pod with an annotation,
//! in a containerd of its own, so that the machine's is neither configured nor restarted.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use crate::containerd;
use crate::cri_client::{ContainerSpec, CriClient, LinuxPod, PodConfig, PodMetadata, PodSecurity};
use crate::private::Private;
use crate::protocol;

const ANNOTATION: (&str, &str) = ("execblock/deny", "whoami");

pub(crate) fn run(execblock: &str) -> Result<()> {
    protocol::without_log();
    let version = containerd::version()?;
    if !containerd::has_nri(&version) {
        say(&format!(
            "containerd {version} has no NRI, 1.7 or later has: the pod is left out"
        ));
        return Ok(());
    }
    say(&format!("containerd {version}"));
    let private = Private::start("execblock-demo", execblock)?;
    pod(&private.client()?, private.dir())?;
    for line in private.plugin_log()?.lines() {
        say(&format!("  {line}"));
    }
    Ok(())
}

fn pod(client: &CriClient, logs: &str) -> Result<()> {
    let config = PodConfig {
        metadata: Some(PodMetadata {
            name: "web".to_owned(),
            uid: "demo".to_owned(),
            namespace: "default".to_owned(),
        }),
        log_directory: logs.to_owned(),
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

fn say(line: &str) {
    protocol::write_stdout(&format!("{line}\n"));
}
