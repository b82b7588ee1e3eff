//! A plugin against a runtime that behaves as the Go ones do.

mod calls;
mod handshake;
mod plugin;
mod reconnect;
mod runtime;
mod wire;

use std::sync::Arc;

use tokio::{net::UnixStream, sync::oneshot, task::JoinHandle};

use self::{
    plugin::{Log, Probe},
    runtime::{FakeRuntime, Registration, soon},
};
use crate::{Error, Options};

/// A plugin that was given its connection, and the runtime at its other end.
struct Pair {
    runtime: FakeRuntime,
    log: Log,
    session: Running,
}

/// A session in a task.
struct Running {
    task: JoinHandle<Result<(), Error>>,
    shutdown: oneshot::Sender<()>,
}

fn spawn(probe: Probe, options: Options) -> Running {
    let (shutdown, stopped) = oneshot::channel();
    let stopped = async {
        if stopped.await.is_err() {
            // The test doesn't shut it down.
            std::future::pending::<()>().await;
        }
    };
    let task = tokio::spawn(crate::run(Arc::new(probe), options, stopped));
    Running { task, shutdown }
}

impl Running {
    async fn ended(self) -> Result<(), Error> {
        soon(self.task).await.unwrap()
    }

    async fn shut_down(self) -> Result<(), Error> {
        self.shutdown.send(()).unwrap();
        soon(self.task).await.unwrap()
    }
}

fn options(socket: UnixStream) -> Options {
    Options::connected("probe", "42", socket.into_std().unwrap()).unwrap()
}

/// Connects a plugin, without any handshake.
async fn connect(registration: Registration) -> Pair {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (probe, log) = Probe::new();
    let session = spawn(probe, options(theirs));
    let runtime = FakeRuntime::new(ours, registration).await;
    Pair {
        runtime,
        log,
        session,
    }
}

/// Connects a plugin, with the handshake and a timeout of so many milliseconds.
async fn ready(request_timeout: i64) -> Pair {
    let mut pair = connect(Registration::Accept).await;
    pair.runtime.handshake(request_timeout).await;
    pair.log
        .expect(&["connected 0", "configure", "synchronize [] []", "ready"])
        .await;
    pair
}
