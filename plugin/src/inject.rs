//! Our OCI hook for a container that is being created over NRI: what is changed of
//! its configuration, so that the runtime refuses it where nobody of ours runs any
//! more. Text in, message out.

use nri::{
    proto::{Container, ContainerAdjustment, Hook, Hooks, OptionalInt, PodSandbox},
    protobuf::MessageField,
};

use crate::installed::{self, NotInstalled};

/// Seconds after which a runtime gives the hook up, and refuses the container: as
/// in hooks.d/execblock.json.
const TIMEOUT: i64 = 10;
/// Before the key of an annotation that is taken away (`MarkForRemoval` of NRI's
/// api/adjustment.go).
const REMOVE: &str = "-";

/// Whether containers are given the hook, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Injection {
    /// They are not.
    #[default]
    Off,
    /// The one that is installed on this machine.
    Usual,
    /// This one, as the runtime sees it.
    At(String),
}

impl Injection {
    /// As the settings say.
    pub(crate) fn new(inject: bool, hook: Option<String>) -> Self {
        match (inject, hook) {
            (false, _) => Self::Off,
            (true, None) => Self::Usual,
            (true, Some(path)) => Self::At(path),
        }
    }

    /// The hook's path; `None` where none is asked for. Looked for each time, so
    /// that one that is installed later needs no restart.
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container.
    pub(crate) fn hook(&self) -> Result<Option<String>, NotInstalled> {
        match self {
            Self::Off => Ok(None),
            Self::Usual => {
                let path = installed::HOOK.find(None)?;
                Ok(Some(path.to_string_lossy().into_owned()))
            }
            // Closed where it is not there: the runtime can't run it.
            Self::At(path) => Ok(Some(path.clone())),
        }
    }
}

/// Adds the hook, and the annotations that hold for the container, which the hook
/// reads: containerd does not hand a pod's down to it.
///
/// They stand there without a scope, and those of ours that have one are taken
/// away. So the hook need not know the container's name, and finds what holds
/// whatever else the runtime handed down.
pub(crate) fn adjustment<'a>(
    hook: &str,
    pod: &PodSandbox,
    container: &Container,
    holding: impl Iterator<Item = (&'a str, &'a str)>,
) -> ContainerAdjustment {
    let hook = Hook {
        path: hook.to_owned(),
        args: vec![installed::HOOK.name().to_owned()],
        timeout: MessageField::some(OptionalInt {
            value: TIMEOUT,
            ..OptionalInt::default()
        }),
        ..Hook::default()
    };
    let all = pod.annotations.keys().chain(container.annotations.keys());
    let scoped = all.filter(|key| {
        key.starts_with(execblock::annotation::PREFIX) && nri::annotation::split(key).1.is_some()
    });
    let removed = scoped.map(|key| (format!("{REMOVE}{key}"), String::new()));
    let holding = holding.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ContainerAdjustment {
        annotations: removed.chain(holding).collect(),
        hooks: MessageField::some(Hooks {
            create_runtime: vec![hook.clone()],
            poststop: vec![hook],
            ..Hooks::default()
        }),
        ..ContainerAdjustment::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use execblock::scope;
    use nri::{annotation::Annotations, proto::PodSandbox};

    use super::*;

    fn map<T: FromIterator<(String, String)>>(pairs: &[(&str, &str)]) -> T {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// What the hook finds on a container named `web`, as the runtime changes it.
    fn hook_sees(pod: &[(&str, &str)], container: &[(&str, &str)]) -> Vec<(String, String)> {
        let pod = PodSandbox {
            annotations: map(pod),
            ..PodSandbox::default()
        };
        let container = Container {
            name: "web".to_owned(),
            annotations: map(container),
            ..Container::default()
        };
        let effective = Annotations::of(&pod, &container).effective_with_prefix("execblock/");
        let holding = effective.iter().map(|one| (one.key, one.value));
        let changes = adjustment("/h", &pod, &container, holding).annotations;
        // All of the pod's and the container's, as where a runtime class hands them down.
        let mut all: BTreeMap<String, String> = pod.annotations.into_iter().collect();
        all.extend(container.annotations);
        for (key, value) in changes {
            match key.strip_prefix(REMOVE) {
                Some(key) => drop(all.remove(key)),
                None => drop(all.insert(key, value)),
            }
        }
        let found = scope::holding(&all, "web").unwrap().into_iter();
        found
            .map(|one| (one.key.to_owned(), one.value.to_owned()))
            .collect()
    }

    #[test]
    fn the_hook_is_called_at_both_stages_and_given_up_in_time() {
        let holding = [("execblock/deny", "id")].into_iter();
        let (pod, container) = (PodSandbox::default(), Container::default());
        let change = adjustment("/x/execblock-hook", &pod, &container, holding);
        for stage in [&change.hooks.create_runtime, &change.hooks.poststop] {
            assert_eq!(stage.len(), 1);
            assert_eq!(stage[0].path, "/x/execblock-hook");
            assert_eq!(stage[0].args, ["execblock-hook"]);
            assert_eq!(stage[0].timeout.value, TIMEOUT);
        }
        assert_eq!(change.annotations["execblock/deny"], "id");
        // Nothing else of the container is changed.
        let rest = ContainerAdjustment {
            annotations: change.annotations.clone(),
            hooks: change.hooks.clone(),
            ..ContainerAdjustment::default()
        };
        assert_eq!(change, rest);
    }

    #[test]
    fn the_hook_finds_what_nri_found() {
        let scoped = "execblock/deny.container.web";
        let other = "execblock/deny.container.db";
        for (pod, container, expected) in [
            (&[("execblock/deny", "a")][..], &[][..], "a"),
            (&[("execblock/deny", "a"), (scoped, "b")], &[], "b"),
            (&[("execblock/deny", "a"), (other, "b")], &[], "a"),
            (&[(scoped, "a")], &[("execblock/deny", "b")], "b"),
            (
                &[(scoped, "a")],
                &[(scoped, "b"), ("execblock/deny", "c")],
                "b",
            ),
            // As CRI-O has them: the pod's are the container's too.
            (
                &[("execblock/deny", "a"), (scoped, "b")],
                &[("execblock/deny", "a"), (scoped, "b"), (other, "c")],
                "b",
            ),
        ] {
            let found = hook_sees(pod, container);
            let expected = vec![("execblock/deny".to_owned(), expected.to_owned())];
            assert_eq!(found, expected, "{pod:?} {container:?}");
        }
    }

    #[test]
    fn a_hook_that_is_not_installed_is_an_error_and_a_named_one_is_the_runtimes_to_find() {
        assert_eq!(Injection::Off.hook().unwrap(), None);
        let at = Injection::At("/no/such/hook".to_owned());
        assert_eq!(at.hook().unwrap().as_deref(), Some("/no/such/hook"));
    }
}
