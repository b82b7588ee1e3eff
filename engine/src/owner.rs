//! Who a container is, for people.

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;

/// Who a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The engine's id of the container.
    pub container: String,
    /// Name of the container.
    pub name: String,
    /// `containerd`, `cri-o`, …
    pub engine: String,
    /// Name of the pod; empty where there is none.
    pub pod: String,
    /// Namespace of the pod, or of containerd for a container that has no pod;
    /// empty where there is none.
    pub namespace: String,
    /// Its image as its engine names it; empty where the engine does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
}

impl Owner {
    /// A cgroup that no engine told us about.
    #[must_use]
    pub fn of_cgroup(cgroup: &Cgroup) -> Self {
        Self {
            container: format!("cgroup-{}", cgroup.id),
            name: cgroup.path.clone(),
            engine: "cgroup".to_owned(),
            ..Self::default()
        }
    }

    /// The id as engines show it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        const SHOWN: usize = 12;
        const LONG: usize = 32;
        match self.container.get(..SHOWN) {
            Some(short) if self.container.len() >= LONG => short,
            _ => &self.container,
        }
    }

    /// As [`Self::describe`]; by its cgroup where nothing else is known.
    #[must_use]
    pub fn describe_or(&self, cgroup: u64) -> String {
        if self.container.is_empty() && self.name.is_empty() {
            format!("cgroup {cgroup}")
        } else {
            self.describe()
        }
    }

    /// `container "app" of pod default/web`, without control characters: the names
    /// are whatever stands in a container's labels.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.pod.is_empty() {
            format!("container {:?}", self.name)
        } else {
            let pod = format!("{}/{}", self.namespace, self.pod);
            let pod = pod.replace(char::is_control, "\u{fffd}");
            format!("container {:?} of pod {pod}", self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_pod_forges_a_line() {
        let mut owner = Owner {
            name: "app".into(),
            pod: "web".into(),
            namespace: "default".into(),
            ..Owner::default()
        };
        assert_eq!(owner.describe(), "container \"app\" of pod default/web");
        owner.pod = "web\n2026 denied".into();
        owner.namespace = "\x1b[2J\u{9b}".into();
        let text = owner.describe();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("denied"), "{text:?}");
    }
}
