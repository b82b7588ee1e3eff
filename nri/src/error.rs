//! What can go wrong with a session.

use std::{io, path::PathBuf, time::Duration};

use crate::frame::FrameError;

/// Why a session could not begin, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name a plugin wants to register with.
    #[error("plugin name {name:?}: expected one or more of A-Z a-z 0-9 _ . + -")]
    Name {
        /// As it was given.
        name: String,
    },
    /// The index a plugin wants to register with.
    #[error("plugin index {index:?}: expected two digits")]
    Index {
        /// As it was given.
        index: String,
    },
    /// A variable that the runtime sets for the plugins it starts.
    #[error("environment variable {variable}={value:?}: expected {expected}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// Its value; empty if it isn't set.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The descriptor that a pre-installed plugin inherits is not usable.
    #[error("inherited descriptor {fd}: {call}")]
    Inherited {
        /// Its number.
        fd: i32,
        /// The call that failed.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no runtime at the socket, or it may not be opened.
    #[error("connect {}", path.display())]
    Connect {
        /// Of the socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The plugin service could not be started on the connection.
    #[error("serve plugin service")]
    Serve {
        /// What the RPC layer said.
        #[source]
        source: ttrpc::Error,
    },
    /// The runtime refused the registration.
    #[error("register plugin {index}-{name}")]
    Register {
        /// The plugin's name.
        name: String,
        /// The plugin's index.
        index: String,
        /// The runtime's answer.
        #[source]
        source: ttrpc::Error,
    },
    /// The runtime did not answer the registration.
    #[error("register plugin {index}-{name}: no answer within {after:?}")]
    RegisterTimeout {
        /// The plugin's name.
        name: String,
        /// The plugin's index.
        index: String,
        /// What was waited.
        after: Duration,
    },
    /// The runtime closed the connection: it stopped, or it dropped the plugin.
    #[error("connection closed by the runtime")]
    Closed,
    /// The runtime sent what is not the protocol.
    #[error("read from the runtime")]
    Protocol(#[from] FrameError),
    /// The RPC layer gave up on one of the two connections.
    #[error("connection {connection}: not understood by the rpc layer")]
    Abandoned {
        /// 1 is the plugin's service, 2 the runtime's.
        connection: u32,
    },
    /// The connection broke.
    #[error("{call} the runtime's connection")]
    Io {
        /// `read` or `write`.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
