//! A plugin that connects to a socket.

use std::{path::Path, time::Duration};

use tokio::net::UnixListener;

use super::{
    Running,
    plugin::{Log, Probe},
    runtime::{FakeRuntime, Registration, soon},
    spawn,
};
use crate::{Backoff, Options};

fn start(socket: &Path) -> (Running, Log) {
    let (probe, log) = Probe::new();
    let short = Duration::from_millis(1);
    let options = Options::external("probe", "42")
        .unwrap()
        .socket(socket)
        .backoff(Backoff {
            first: short,
            most: 4 * short,
        });
    (spawn(probe, options), log)
}

async fn accept(listener: &UnixListener, registration: Registration) -> FakeRuntime {
    let (socket, _) = soon(listener.accept()).await.unwrap();
    FakeRuntime::new(socket, registration).await
}

/// Skips attempts that were made while there was no runtime.
async fn skip_attempts(log: &mut Log, socket: &Path) -> String {
    loop {
        let line = log.next().await;
        if line != format!("disconnected, retry: connect {}", socket.display()) {
            return line;
        }
    }
}

#[tokio::test]
async fn it_comes_back_when_the_runtime_does() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nri.sock");
    let (session, mut log) = start(&socket);
    // No runtime yet.
    let line = format!("disconnected, retry: connect {}", socket.display());
    log.expect(&[&line, &line]).await;

    for reconnects in 0..3 {
        // As the runtimes do: a new socket under the old name.
        let listener = UnixListener::bind(&socket).unwrap();
        let mut runtime = accept(&listener, Registration::Accept).await;
        assert_eq!(runtime.handshake(2000).await, 0x420);
        let line = skip_attempts(&mut log, &socket).await;
        assert_eq!(line, format!("connected {reconnects}"));
        log.expect(&["configure", "synchronize [] []", "ready"])
            .await;
        std::fs::remove_file(&socket).unwrap();
        drop(listener);
        runtime.stop().await;
        log.expect(&["disconnected, retry: connection closed by the runtime"])
            .await;
    }
    session.shut_down().await.unwrap();
}

#[tokio::test]
async fn it_tries_again_when_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nri.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (session, mut log) = start(&socket);
    let refusing = accept(&listener, Registration::Refuse).await;
    log.expect(&[
        "connected 0",
        "disconnected, retry: register plugin 42-probe",
    ])
    .await;
    refusing.stop().await;
    let mut runtime = accept(&listener, Registration::Accept).await;
    runtime.handshake(2000).await;
    log.expect(&["connected 1", "configure", "synchronize [] []", "ready"])
        .await;
    session.shut_down().await.unwrap();
}

/// The frame that breaks the protocol is the reason, not the end that follows.
#[tokio::test]
async fn it_tries_again_after_a_frame_that_is_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nri.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (_session, mut log) = start(&socket);
    let broken = accept(&listener, Registration::Ignore).await;
    broken.write_raw(&[0xff; 8]);
    log.expect(&["connected 0", "disconnected, retry: read from the runtime"])
        .await;
    let mut runtime = accept(&listener, Registration::Accept).await;
    runtime.handshake(2000).await;
    log.expect(&["connected 1", "configure"]).await;
}

#[tokio::test]
async fn it_stops_while_it_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (probe, mut log) = Probe::new();
    let hour = Duration::from_hours(1);
    let options = Options::external("probe", "42")
        .unwrap()
        .socket(directory.path().join("nri.sock"))
        .backoff(Backoff {
            first: hour,
            most: hour,
        });
    let session = spawn(probe, options);
    log.next().await;
    session.shut_down().await.unwrap();
}
