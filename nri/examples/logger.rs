//! Prints what a runtime does with its pods and containers.
//!
//! ```console
//! # cargo run -p nri --example logger [SOCKET]
//! ```
//!
//! Or as a pre-installed plugin: copy the executable to `/opt/nri/plugins/10-logger`
//! and restart the runtime, whose log then has the output.

use std::{env, fmt::Display, io::Write as _, sync::Arc};

use nri::{
    ConnectionEvent, Events, HandlerResult, Options, Plugin, Runtime,
    proto::{Container, ContainerAdjustment, PodSandbox},
};

struct Logger;

fn print(line: impl Display) {
    // A closed output is no reason to panic, which would refuse a container.
    writeln!(std::io::stdout(), "{line}").ok();
}

fn show(event: &str, pod: &PodSandbox, container: &Container) {
    let (namespace, pod, name, pid) = (&pod.namespace, &pod.name, &container.name, container.pid);
    print(format_args!("{event} {namespace}/{pod} {name} pid {pid}"));
}

impl Plugin for Logger {
    fn events(&self) -> Events {
        Events::ALL
    }

    async fn configure(&self, runtime: Runtime) -> HandlerResult {
        print(format_args!("configure {runtime:?}"));
        Ok(())
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> HandlerResult {
        let (pods, containers) = (pods.len(), containers.len());
        print(format_args!(
            "synchronize {pods} pods, {containers} containers"
        ));
        Ok(())
    }

    async fn run_pod_sandbox(&self, pod: PodSandbox) -> HandlerResult {
        show("run_pod_sandbox", &pod, &Container::default());
        Ok(())
    }

    async fn stop_pod_sandbox(&self, pod: PodSandbox) -> HandlerResult {
        show("stop_pod_sandbox", &pod, &Container::default());
        Ok(())
    }

    async fn remove_pod_sandbox(&self, pod: PodSandbox) -> HandlerResult {
        show("remove_pod_sandbox", &pod, &Container::default());
        Ok(())
    }

    async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> HandlerResult<ContainerAdjustment> {
        show("create_container", &pod, &container);
        Ok(ContainerAdjustment::default())
    }

    async fn post_create_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        show("post_create_container", &pod, &container);
        Ok(())
    }

    async fn start_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        show("start_container", &pod, &container);
        Ok(())
    }

    async fn post_start_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        show("post_start_container", &pod, &container);
        Ok(())
    }

    async fn update_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        show("update_container", &pod, &container);
        Ok(())
    }

    async fn post_update_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        show("post_update_container", &pod, &container);
        Ok(())
    }

    async fn stop_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        show("stop_container", &pod, &container);
        Ok(())
    }

    async fn remove_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        show("remove_container", &pod, &container);
        Ok(())
    }

    fn connection(&self, event: &ConnectionEvent<'_>) {
        print(format_args!("connection {event:?}"));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = match (Options::pre_installed()?, env::args_os().nth(1)) {
        (Some(options), _) => options,
        (None, None) => Options::external("logger", "10")?,
        (None, Some(socket)) => Options::external("logger", "10")?.socket(socket),
    };
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            print(format_args!("wait for ctrl-c: {error}"));
        }
    };
    nri::run(Arc::new(Logger), options, interrupted).await?;
    Ok(())
}
