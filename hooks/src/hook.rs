//! The OCI hook: one entry for `createRuntime` and `poststop`, told apart by the
//! status in the state that the runtime gives on standard input.

use std::{io::Read, path::Path};

use execblock::oci::{self, OciError, State};

use crate::bind::{self, Left, Refusal};

/// What the hook found to do.
#[derive(Debug)]
pub enum Done {
    /// Nothing holds for it: nothing was touched.
    NotOurs,
    /// The container runs its programs under its rules.
    Bound,
    /// A stopped container was forgotten, or has never been known. What could
    /// not be forgotten is for the log: stopping never fails because of it.
    Stopped(Option<Left>),
}

/// Why the hook fails: the runtime refuses the container.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Standard input.
    #[error(transparent)]
    State(#[from] OciError),
    /// An annotated container, or one that can't be told from one.
    #[error("refused {who}: {reason}")]
    Refused {
        /// The container.
        who: String,
        /// Why.
        reason: Refusal,
    },
    /// Called at another stage.
    #[error(
        "refused {who}: its status is {status:?}, expected \"creating\" or \"created\" (stage \
         createRuntime) or \"stopped\" (stage poststop); nothing was done"
    )]
    Stage {
        /// The container.
        who: String,
        /// What the state says.
        status: String,
    },
}

/// Runs the hook on a state.
///
/// # Errors
///
/// Where the container must not start.
pub fn run(input: impl Read) -> Result<Done, HookError> {
    // Closed: who calls this hook does so because of an annotation, and what is
    // no state can't be told from an annotated container's.
    let state = State::parse(&oci::read_bounded(input, "standard input")?)?;
    if state.status == "stopped" && !is_restored(&state) {
        return Ok(Done::Stopped(bind::unbind(&state.id).err()));
    }
    let who = format!("container {:?}", state.id);
    let status = state.status.clone();
    let refused = |reason| HookError::Refused {
        who: who.clone(),
        reason,
    };
    // Closed, for the same reason.
    let mut container = bind::describe(state).map_err(refused)?;
    // Where a runtime's mount of it is not seen here, the process may be there
    // already.
    container.root = container.root.filter(|root| root.is_dir());
    let Some(spec) = bind::wanted(&container).map_err(refused)? else {
        return Ok(Done::NotOurs);
    };
    // crun says "created" where the specification has "creating".
    if !matches!(status.as_str(), "creating" | "created" | "stopped") {
        // Closed: the container runs or will run, and nothing else binds it.
        return Err(HookError::Stage { who, status });
    }
    bind::bind_to(&container, &spec).map_err(refused)?;
    Ok(Done::Bound)
}

/// Where runc restores a container it gives createRuntime hooks the status of a
/// container without a process, and the id of the process that is being restored
/// (`criuNotifications`, "setup-namespaces"). At poststop there is none.
fn is_restored(state: &State) -> bool {
    state.pid > 0 && Path::new(&format!("/proc/{}", state.pid)).exists()
}
