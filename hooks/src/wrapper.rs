//! The runtime wrapper: looks at the few verbs that let a container's program
//! run, and executes the real runtime in its place.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use execblock::oci::{self, Config, Container, OciError, State};

use crate::{
    args::{Invocation, Verb},
    bind::{self, Left, Refusal},
    inject::{self, InjectError},
    known::{self, AskError},
    real::{self, LOOP_VAR, RealError},
    report,
};

/// Exit status where a container is refused.
const REFUSED: u8 = 1;
/// Exit status where there is no runtime, as a shell's for no command.
const NO_RUNTIME: u8 = 127;

/// Why a verb is refused.
#[derive(Debug, thiserror::Error)]
enum WrapError {
    #[error("refused container {0:?}: {1}")]
    Refused(String, Refusal),
    #[error(
        "refused container {0:?}: it can't be told whether it is annotated: {1}; the runtime must \
         answer before a container starts"
    )]
    Ask(String, AskError),
    #[error("refused container {0:?}: {1}")]
    Inject(String, InjectError),
    #[error(
        "refused container {0:?}: {1} runs no hooks when it restores a container, so that its \
         annotations would not hold; restore it with runc, or drop the annotations"
    )]
    Restore(String, String),
    #[error(transparent)]
    Real(#[from] RealError),
    #[error("{0}: {1}")]
    Exec(PathBuf, io::Error),
}

/// Does what the command line asks for. Returns only where the runtime was not
/// executed: with the exit status.
#[must_use]
pub fn run(words: &[OsString]) -> u8 {
    let (called, args) = match words.split_first() {
        Some((called, args)) => (called.as_os_str(), args),
        None => (OsStr::new(""), words),
    };
    let invocation = Invocation::parse(args);
    let error = match instead(called, args, &invocation) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report::refusal(&invocation, &error.to_string());
    match error {
        WrapError::Real(RealError::NotFound { .. }) => NO_RUNTIME,
        _ => REFUSED,
    }
}

/// Prepares what the verb needs, and becomes the runtime.
fn instead(
    called: &OsStr,
    args: &[OsString],
    invocation: &Invocation<'_>,
) -> Result<std::convert::Infallible, WrapError> {
    let real = runtime(called, invocation.verb)?;
    // Closed, for all verbs: nothing would ever be executed.
    real::refuse_loop(&real)?;
    // An id that is no text is no container of any runtime: it will say so.
    if let Some(id) = invocation.id.and_then(OsStr::to_str) {
        match invocation.verb {
            Verb::Start => start(invocation, &real, id)?,
            Verb::Run | Verb::Restore => create_and_start(invocation, &real, id)?,
            Verb::Delete => delete(id),
            Verb::Create | Verb::Other => {}
        }
    }
    let mut command = Command::new(&real);
    command.args(args).arg0(&real);
    mark(&mut command);
    Err(WrapError::Exec(real, command.exec()))
}

/// The real runtime. A configuration that can't be followed refuses what would
/// create or start a container (closed: not with another runtime than was asked
/// for), while those that run can still be stopped and deleted (open).
fn runtime(called: &OsStr, verb: Verb) -> Result<PathBuf, RealError> {
    match real::find(called) {
        Err(RealError::Config(error)) if matches!(verb, Verb::Other | Verb::Delete) => {
            report::complain(&format!("{error}; going on with the usual runtime"));
            real::find_usual()
        }
        found => found,
    }
}

fn mark(command: &mut Command) {
    command.env(LOOP_VAR, std::process::id().to_string());
}

/// Binds a created container whose program is about to run.
fn start(invocation: &Invocation<'_>, real: &Path, id: &str) -> Result<(), WrapError> {
    let found = known::container(invocation, real, mark, id);
    // Closed: a runtime that does not answer could still start it.
    let found = found.map_err(|error| WrapError::Ask(id.to_owned(), error))?;
    // Open: the runtime says that there is no such container, and so will `start`.
    let Some(mut container) = found else {
        return Ok(());
    };
    // Its process is there by now, and the bundle's may be another.
    container.root = None;
    // Closed: annotated, and not bound.
    bind::bind(&container)
        .map(drop)
        .map_err(|refusal| WrapError::Refused(id.to_owned(), refusal))
}

/// Gives an annotated bundle our hook: there is no moment between creation and
/// start that this process would see.
fn create_and_start(invocation: &Invocation<'_>, real: &Path, id: &str) -> Result<(), WrapError> {
    let bundle = invocation.bundle.unwrap_or(Path::new("."));
    let path = match invocation.config {
        Some(config) if invocation.verb == Verb::Run => config.to_owned(),
        _ => bundle.join("config.json"),
    };
    let refused = |refusal| WrapError::Refused(id.to_owned(), refusal);
    let what = path.display().to_string();
    let text = match fs::File::open(&path) {
        Ok(file) => oci::read_bounded(file, &what),
        Err(source) => Err(OciError::Io { what, source }),
    };
    let text = match text {
        Ok(text) => text,
        // Open: the runtime can't read it either, and says so.
        Err(OciError::Io { .. }) => return Ok(()),
        // Closed: it can't be told whether it is annotated.
        Err(error) => return Err(refused(error.into())),
    };
    // Closed, for the same reason.
    let config = Config::parse(&text, &path).map_err(|error| refused(error.into()))?;
    let state = State {
        id: id.to_owned(),
        ..State::default()
    };
    let container = Container::new(state, config);
    // What the hook would say, but sooner and where the user looks.
    if bind::wanted(&container).map_err(refused)?.is_none() {
        return Ok(());
    }
    if invocation.verb == Verb::Restore && !restores_with_hooks(real) {
        return Err(WrapError::Restore(
            id.to_owned(),
            real.display().to_string(),
        ));
    }
    inject::hook()
        .and_then(|hook| inject::inject(&path, &text, &hook))
        .map_err(|error| WrapError::Inject(id.to_owned(), error))
}

/// runc runs createRuntime hooks on `setup-namespaces` of CRIU; crun runs none in
/// `libcrun_container_restore`. Of others it is not known. Closed.
fn restores_with_hooks(real: &Path) -> bool {
    let real = fs::canonicalize(real).unwrap_or_else(|_| real.to_owned());
    let name = real.file_name().unwrap_or_default();
    name.to_string_lossy().contains("runc")
}

/// Forgets a container that is about to be deleted. Open for the engine: what
/// can't be forgotten is collected when its cgroup is gone.
fn delete(id: &str) {
    match bind::unbind(id) {
        // The runtime kills them, or refuses.
        Ok(_) | Err(Left::Populated(_)) => {}
        Err(error) => report::complain(&error.to_string()),
    }
}
