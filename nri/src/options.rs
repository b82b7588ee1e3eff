//! Who the plugin is and how it comes to its connection.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        fd::{FromRawFd as _, RawFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{Backoff, Error};

/// Where containerd and CRI-O listen for plugins by default.
pub const DEFAULT_SOCKET: &str = "/var/run/nri/nri.sock";

/// How long to wait for the answer to a registration by default.
///
/// The runtime registers one plugin after the other and may wait 5 s for each.
pub const DEFAULT_REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);

const NAME: &str = "NRI_PLUGIN_NAME";
const INDEX: &str = "NRI_PLUGIN_IDX";
const SOCKET: &str = "NRI_PLUGIN_SOCKET";

/// Settings of a session.
#[derive(Debug)]
pub struct Options {
    pub(crate) name: String,
    pub(crate) index: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) registration_timeout: Duration,
    pub(crate) backoff: Backoff,
}

/// Where the connection comes from.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// Connect to this socket, for ever.
    Socket(PathBuf),
    /// There is one connection.
    Connected(UnixStream),
}

impl Options {
    /// A plugin that connects to the runtime's socket, [`DEFAULT_SOCKET`] unless
    /// [`socket`](Self::socket) says otherwise.
    ///
    /// `index`, two digits, is the plugin's place in the order in which plugins
    /// are called.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] and [`Error::Index`], if a runtime would not take them.
    pub fn external(name: &str, index: &str) -> Result<Self, Error> {
        Self::new(name, index, Endpoint::Socket(DEFAULT_SOCKET.into()))
    }

    /// A plugin with a connection that was made elsewhere. The session ends
    /// with the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] and [`Error::Index`], if a runtime would not take them.
    pub fn connected(name: &str, index: &str, connection: UnixStream) -> Result<Self, Error> {
        Self::new(name, index, Endpoint::Connected(connection))
    }

    /// A plugin that was started by the runtime, from its plugin directory.
    /// `None` if this process was not. The session ends with the connection.
    ///
    /// Takes the inherited descriptor, and makes it close on exec. A second call
    /// returns an error.
    ///
    /// # Errors
    ///
    /// [`Error::Environment`] if a variable that the runtime sets is missing or
    /// makes no sense, [`Error::Inherited`] if the descriptor is not a socket,
    /// [`Error::Name`] and [`Error::Index`] as in [`external`](Self::external).
    pub fn pre_installed() -> Result<Option<Self>, Error> {
        let Some(fd) = env::var_os(SOCKET) else {
            return Ok(None);
        };
        let fd = descriptor(&fd)?;
        let (name, index) = (variable(NAME)?, variable(INDEX)?);
        check_name(&name)?;
        check_index(&index)?;
        Self::connected(&name, &index, inherit(fd)?).map(Some)
    }

    fn new(name: &str, index: &str, endpoint: Endpoint) -> Result<Self, Error> {
        check_name(name)?;
        check_index(index)?;
        Ok(Self {
            name: name.to_owned(),
            index: index.to_owned(),
            endpoint,
            registration_timeout: DEFAULT_REGISTRATION_TIMEOUT,
            backoff: Backoff::default(),
        })
    }

    /// The socket to connect to. No effect on a plugin that has its connection.
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        if let Endpoint::Socket(socket) = &mut self.endpoint {
            *socket = path.into();
        }
        self
    }

    /// How long to wait for the answer to the registration,
    /// [`DEFAULT_REGISTRATION_TIMEOUT`] unless set.
    #[must_use]
    pub fn registration_timeout(mut self, timeout: Duration) -> Self {
        self.registration_timeout = timeout;
        self
    }

    /// The delays between attempts to connect.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

/// What NRI 0.12 takes; older versions take any that is not empty.
fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(Error::Name {
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn check_index(index: &str) -> Result<(), Error> {
    match index.as_bytes() {
        [b'0'..=b'9', b'0'..=b'9'] => Ok(()),
        _ => Err(Error::Index {
            index: index.to_owned(),
        }),
    }
}

fn variable(variable: &'static str) -> Result<String, Error> {
    env::var(variable).map_err(|error| Error::Environment {
        variable,
        value: match error {
            env::VarError::NotPresent => String::new(),
            env::VarError::NotUnicode(value) => value.to_string_lossy().into_owned(),
        },
        expected: "what the runtime sets for plugins that it starts",
    })
}

fn descriptor(value: &OsStr) -> Result<RawFd, Error> {
    value
        .to_str()
        .and_then(|value| value.parse().ok())
        // 0 to 2 are somebody else's.
        .filter(|&fd: &RawFd| fd > 2)
        .ok_or_else(|| Error::Environment {
            variable: SOCKET,
            value: value.to_string_lossy().into_owned(),
            expected: "the number of an inherited descriptor",
        })
}

/// Takes over the descriptor that the runtime left for this process.
fn inherit(fd: RawFd) -> Result<UnixStream, Error> {
    static TAKEN: AtomicBool = AtomicBool::new(false);

    let failed = |call, source| Error::Inherited { fd, call, source };
    // The runtime does not set it, and children must not keep the connection open.
    // SAFETY: a flag of a descriptor is set; a bad descriptor is an error.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(failed("set close-on-exec", io::Error::last_os_error()));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        let source = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(failed("taken before", source));
    }
    // SAFETY: the descriptor is open, as was just seen; the runtime left it for
    // this process to own, and TAKEN keeps it from being owned twice.
    let socket = unsafe { UnixStream::from_raw_fd(fd) };
    socket
        .local_addr()
        .map_err(|source| failed("not a Unix socket", source))?;
    Ok(socket)
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
