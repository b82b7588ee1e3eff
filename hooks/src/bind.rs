//! From what a runtime says of a container to a bound one, or to the reason why
//! it is refused.

use std::fs;

use execblock::{
    annotation::{self, Spec},
    bind::{BindError, Binder, Unbound},
    cgroup::{CgroupError, Init},
    kernel::PinError,
    node::{Node, SpecError},
    oci::{Config, Container, OciError, State},
    release, scope,
};

/// Why an annotated container is refused. Fails closed, with nothing half-done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What describes it was not understood.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// What holds for it can't be told.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Neither runtime nor bundle tell whether it is annotated.
    #[error("it can't be told whether it is annotated: {0}")]
    Unknown(String),
    /// Whoever called us can't write root's maps.
    #[error(
        "annotation {0}: programs are refused by root's maps alone, and this runs as {1}; run the \
         container as root, or drop the annotation"
    )]
    NotRoot(String, &'static str),
    /// No cgroup v2.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Binding.
    #[error("{0}{old}", old = old_kernel(.0))]
    Bind(#[from] BindError),
}

/// Why nothing is loaded, most likely.
fn old_kernel(error: &BindError) -> String {
    let reason = match error {
        BindError::Pin(PinError::NotLoaded(_)) => release::too_old(),
        _ => None,
    };
    reason.map(|old| format!("; {old}")).unwrap_or_default()
}

/// All that can be known of a container: the bundle's configuration adds the
/// annotations that the state lacks, and the cgroup.
///
/// # Errors
///
/// Where it can't be told whether the container is annotated.
pub fn describe(state: State) -> Result<Container, Refusal> {
    let config = match &state.bundle {
        Some(bundle) => Config::of_bundle(bundle),
        None if state.annotations.is_some() => Ok(Config::default()),
        None => return Err(Refusal::Unknown("the state names no bundle".into())),
    };
    match (config, &state.annotations) {
        (Ok(config), _) => Ok(Container::new(state, config)),
        // The state's are a copy of the configuration's. What is lost is the
        // cgroup that it asks for; the container's id finds most.
        (Err(_), Some(_)) => Ok(Container::new(state, Config::default())),
        (Err(error), None) => Err(Refusal::Unknown(error.to_string())),
    }
}

/// Binds a container. `false`: nothing holds for it, and nothing was touched.
///
/// # Errors
///
/// Where it has and can't be bound: the caller refuses it.
pub fn bind(container: &Container) -> Result<bool, Refusal> {
    let Some(spec) = wanted(container)? else {
        return Ok(false);
    };
    bind_to(container, &spec)?;
    Ok(true)
}

/// Binds a container to what holds for it.
///
/// # Errors
///
/// The caller refuses it.
pub fn bind_to(container: &Container, spec: &Spec) -> Result<(), Refusal> {
    let init = Init {
        pid: container.pid,
        cgroups_path: container.cgroups_path.as_deref(),
        root: container.root.as_deref(),
    };
    Binder::new()?.bind_container(&container.owner, init, spec)?;
    Ok(())
}

/// What its annotations, and defaults of this node, ask for; `None` where nothing.
///
/// # Errors
///
/// Where they are not understood, or this process can't do it.
pub fn wanted(container: &Container) -> Result<Option<Spec>, Refusal> {
    // Before any file is read or made: a user's container leaves nothing behind.
    match not_root() {
        Some(who) if container.is_annotated() => {
            // What is not understood is told first, and what is for another container
            // is not this one's.
            let holding = scope::holding(&container.annotations, &container.owner.name)
                .map_err(SpecError::from)?;
            let asked = annotation::read(holding).map_err(SpecError::from)?;
            if asked.is_empty() {
                Ok(None)
            } else {
                Err(Refusal::NotRoot(first_key(container), who))
            }
        }
        // Open: the defaults are for root's containers, and this one asks for
        // nothing.
        Some(_) => Ok(None),
        None => Ok(container.spec(&Node::default())?),
    }
}

fn first_key(container: &Container) -> String {
    let mut keys = container.annotations.keys();
    keys.find(|key| key.starts_with(annotation::PREFIX))
        .cloned()
        .unwrap_or_default()
}

/// Who this process is, where it is not the machine's root.
pub(crate) fn not_root() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("a user");
    }
    // user_namespaces(7): the initial namespace maps everything to itself.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    // A map that can't be read is no reason: the kernel decides at the maps.
    (!map.is_empty() && !whole).then_some("root of a user namespace")
}

/// Why an entry was left; it is collected when its cgroup is gone.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    /// Processes are in it.
    #[error("container {0} still has processes, they stay under its rules")]
    Populated(String),
    /// The cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The maps.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Forgets a container of which nothing runs. `false`: it is not ours, nothing
/// was touched.
///
/// # Errors
///
/// Where it stays bound, which is the safe side: nobody should fail for it.
pub fn unbind(container: &str) -> Result<bool, Left> {
    let binder = match Binder::new() {
        // Nothing can be bound on such a machine.
        Err(CgroupError::NoUnified) => return Ok(false),
        binder => binder?,
    };
    match binder.unbind_container(container)? {
        Unbound::Unknown => Ok(false),
        Unbound::Done => Ok(true),
        Unbound::InUse => Err(Left::Populated(container.to_owned())),
    }
}
