//! A plugin that looks at all it is given, as ours does, and refuses some of it.

use std::collections::HashMap;

use nri::{
    Events, HandlerResult, Plugin, Runtime,
    annotation::{Annotations, SCOPE, Source},
    proto::{Container, ContainerAdjustment, KeyValue, PodSandbox},
};

/// What our own annotations begin with.
const PREFIX: &str = "execblock/";

#[derive(Debug, Default)]
pub(super) struct Probe;

impl Plugin for Probe {
    fn events(&self) -> Events {
        Events::ALL
    }

    async fn configure(&self, runtime: Runtime) -> HandlerResult {
        match runtime.name.as_str() {
            "refused" => Err(runtime.version.into()),
            _ => Ok(()),
        }
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> HandlerResult {
        let none = PodSandbox::default();
        for container in &containers {
            let pod = pods.iter().find(|pod| pod.id == container.pod_sandbox_id);
            judge(pod.unwrap_or(&none), container)?;
        }
        Ok(())
    }

    /// As many bytes of environment as the container's pid says, where that is about
    /// as much as fits into a frame, or into an answer.
    async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> HandlerResult<ContainerAdjustment> {
        judge(&pod, &container)?;
        let length = match container.pid as usize {
            length @ (0..10_000 | 0x3f_ff00..0x40_2000) => length,
            _ => 0,
        };
        Ok(ContainerAdjustment {
            env: vec![KeyValue {
                key: "LONG".into(),
                value: "x".repeat(length),
                ..KeyValue::default()
            }],
            annotations: container.annotations,
            args: container.args,
            ..ContainerAdjustment::default()
        })
    }

    async fn start_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        judge(&pod, &container)
    }

    async fn remove_container(&self, pod: PodSandbox, container: Container) -> HandlerResult {
        judge(&pod, &container)
    }

    async fn stop_container(&self, _: PodSandbox, container: Container) -> HandlerResult {
        match container.name.as_str() {
            // Answered for it, when its time is over.
            "hang" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// Refuses what is annotated, with the annotation.
fn judge(pod: &PodSandbox, container: &Container) -> HandlerResult {
    let annotations = Annotations::of(pod, container);
    let all = annotations.with_prefix("");
    let effective = annotations.effective_with_prefix("");
    let mut keys: Vec<&str> = all.iter().map(|one| one.key).collect();
    keys.dedup();
    assert!(effective.iter().map(|one| one.key).eq(keys));
    for one in &all {
        let found = annotations.effective(one.key).expect("it has one at least");
        assert!((found.source, found.scoped) >= (one.source, one.scoped));
        let of: &HashMap<String, String> = match one.source {
            Source::Pod => &pod.annotations,
            Source::Container => &container.annotations,
        };
        assert_eq!(of.get(one.written).map(String::as_str), Some(one.value));
        let behind = one
            .written
            .strip_prefix(one.key)
            .expect("the key is its beginning");
        assert_eq!(one.scoped, behind.starts_with(SCOPE));
        if !container.name.is_empty() && one.scoped {
            assert_eq!(behind.strip_prefix(SCOPE), Some(container.name.as_str()));
        }
        assert!(one.scoped || behind.is_empty());
    }
    for one in effective {
        assert_eq!(annotations.effective(one.key), Some(one));
    }
    match annotations.effective_with_prefix(PREFIX).first() {
        Some(one) => Err(format!("{} = {}", one.written, one.value).into()),
        None => Ok(()),
    }
}
