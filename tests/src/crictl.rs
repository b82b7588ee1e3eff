//! Stands in for `crictl`, which Debian does not have: the commands of the quick start with pods,
//! with crictl's words and files, over a real containerd.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::containerd;
use crate::cri_client::{ContainerSpec, CriClient, LinuxPod, PodConfig, PodMetadata, PodSecurity};
use crate::protocol::write_stdout;

/// Where the stand-in is put.
pub(crate) const PROGRAM: &str = "/usr/local/bin/crictl";

/// What calls [`main`].
pub(crate) const SCRIPT: &str = "#!/bin/sh\nexec /payload/vmtest crictl \"$@\"\n";

pub(crate) fn main(args: &[&str]) -> Result<()> {
    let client = CriClient::connect(Path::new(containerd::SOCKET))?;
    let answer = match args {
        ["runp", pod] => client.run_pod(&pod_config(pod)?, "")?,
        ["create", id, container, pod] => {
            client.create(id, &pod_config(pod)?, container_spec(container)?)?
        }
        ["start", id] => {
            client.start(id)?;
            (*id).to_owned()
        }
        ["exec", "--sync", id, command @ ..] => {
            let reply = client.exec(id, command)?;
            write_stdout(&reply.said());
            if reply.code != 0 {
                bail!("command terminated with exit code {}", reply.code);
            }
            return Ok(());
        }
        ["rmp", "--force", id] => {
            client.remove_pod(id)?;
            format!("Stopped sandbox {id}\nRemoved sandbox {id}")
        }
        _ => bail!("crictl {args:?}: not one of the commands that stand in for it"),
    };
    write_stdout(&format!("{answer}\n"));
    Ok(())
}

fn read(file: &str) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
    serde_json::from_str(&text).with_context(|| file.to_owned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn pod_config(file: &str) -> Result<PodConfig> {
    let json = read(file)?;
    let metadata = &json["metadata"];
    let annotations: HashMap<String, String> = match &json["annotations"] {
        Value::Null => HashMap::new(),
        some => serde_json::from_value(some.clone())?,
    };
    let security = &json["linux"]["security_context"];
    if security["namespace_options"]["network"] != 2 {
        bail!("{file}: expected the network of the node, for there is no other here");
    }
    Ok(PodConfig {
        metadata: Some(PodMetadata {
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            namespace: text(&metadata["namespace"]),
        }),
        log_directory: text(&json["log_directory"]),
        annotations,
        linux: Some(LinuxPod {
            cgroup_parent: text(&json["linux"]["cgroup_parent"]),
            security_context: Some(PodSecurity::on_host_network(false)),
        }),
    })
}

fn container_spec(file: &str) -> Result<ContainerSpec> {
    let json = read(file)?;
    Ok(ContainerSpec {
        name: text(&json["metadata"]["name"]),
        image: text(&json["image"]["image"]),
        command: serde_json::from_value(json["command"].clone())?,
        ..ContainerSpec::default()
    })
}
