//! What a container runtime sends to a plugin over NRI's socket, through the public
//! functions of the crate: the session that it runs is the one that is shipped.
//!
//! Time is tokio's own, which stands still as long as anything can be done: so a
//! session that hangs is seen at once, and so is that it has nothing more to say.

mod plugin;
mod wire;

use std::{future::pending, io, os::unix::net::UnixStream as StdStream, sync::Arc, time::Duration};

use nri::{Error, Options};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::{plugin::Probe, wire::Received};
use crate::bytes;

/// In tokio's time: over when nobody has anything to do, or has just got it.
const STEP: Duration = Duration::from_millis(10);
/// After as many steps without a sign there will be none: a sign that comes from a
/// socket takes one of its own.
const QUIET: usize = 5;
/// Steps that are longer than all that the crate waits for.
const PATIENCE: usize = 2000;

/// Runs a session with a runtime that sends what the bytes say, see [`wire::next`].
pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    // Made anew: what a session leaves behind is not for the next.
    runtime.expect("a runtime").block_on(async {
        let (ours, theirs) = StdStream::pair().expect("a pair of sockets");
        let options = Options::connected("fuzz", "42", theirs).expect("a good name");
        let session = nri::run(Arc::new(Probe), options, pending());
        let session = tokio::spawn(session);
        let received = drive(ours, session, data).await;
        received.check();
    });
}

/// Sends, waits until all is answered that is going to be, and closes.
async fn drive(
    ours: StdStream,
    session: JoinHandle<Result<(), Error>>,
    mut data: &[u8],
) -> Received {
    ours.set_nonblocking(true).expect("a socket");
    let socket = UnixStream::from_std(ours).expect("a socket");
    let (mut read, mut write) = socket.into_split();
    let mut received = Received::default();
    if bytes::byte(&mut data) == Some(b'm') {
        let mut stream = 1;
        while let Some(sent) = wire::next(&mut data, &mut stream) {
            received.requests.extend(sent.request);
            received.loose |= sent.loose;
            send(&mut read, &mut write, &sent.bytes, &mut received).await;
        }
    } else {
        received.loose = true;
        send(&mut read, &mut write, data, &mut received).await;
    }
    received.loose |= session.is_finished();
    drop(write);
    for step in 0.. {
        assert!(step < PATIENCE, "it goes on without its connection");
        if session.is_finished() {
            // Why it ended is told; here it is enough that it did.
            if let Err(error) = session.await.expect("no panic") {
                assert!(!error.to_string().is_empty());
            }
            break;
        }
        if listen(&mut read, &mut received).await.unwrap_or(0) == 0 {
            sleep(STEP).await;
        }
    }
    received
}

/// Writes, and reads meanwhile: a runtime does both.
async fn send(
    read: &mut OwnedReadHalf,
    write: &mut OwnedWriteHalf,
    sent: &[u8],
    received: &mut Received,
) {
    let mut rest = sent;
    let mut waited = 0;
    while !rest.is_empty() {
        match timeout(STEP, write.write(rest)).await {
            Ok(Ok(written)) => {
                rest = &rest[written..];
                waited = 0;
            }
            // The session has ended.
            Ok(Err(_closed)) => return,
            // It does not read before what it wrote is read.
            Err(_waits) => {
                waited += 1;
                assert!(waited < PATIENCE, "it neither reads nor writes");
                if listen(read, received).await.is_err() {
                    return;
                }
            }
        }
    }
    // What can't be read any more was told when it was written.
    listen(read, received).await.ok();
}

/// Reads until nothing more comes: how many bytes that were.
async fn listen(read: &mut OwnedReadHalf, received: &mut Received) -> io::Result<usize> {
    let before = received.bytes.len();
    let mut quiet = 0;
    while quiet < QUIET {
        let mut buffer = [0; 4096];
        match timeout(STEP, read.read(&mut buffer)).await {
            Ok(Ok(0)) => break,
            Ok(Ok(length)) => {
                received.bytes.extend_from_slice(&buffer[..length]);
                quiet = 0;
            }
            Ok(Err(error)) => return Err(error),
            Err(_nothing) => quiet += 1,
        }
    }
    Ok(received.bytes.len() - before)
}
