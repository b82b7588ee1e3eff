//! Two connections over one socket.
//!
//! There is no opening or closing of a connection on the wire: both sides know
//! the two ids, and frames for any other are dropped.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_channel::mpsc as outgoing;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{Fuse, FusedFuture as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc as incoming,
    task::{AbortHandle, JoinHandle},
};

use crate::{
    error::Error,
    frame::{self, Decoder},
    shape::Shape,
};

/// The connection on which the plugin serves.
pub(crate) const PLUGIN_SERVICE: u32 = 1;
/// The connection on which the runtime serves.
pub(crate) const RUNTIME_SERVICE: u32 = 2;

/// Received frames that wait for a connection's reader. The reader task waits
/// when they are as many, so this bounds memory, not what can be received.
const INCOMING: usize = 16;
/// Frames that wait to be written, for both connections.
const OUTGOING: usize = 4;
/// What is read from the socket at once.
const READ: usize = 16 << 10;

/// The socket's side: two tasks, which end when this is dropped.
#[derive(Debug)]
pub(crate) struct Trunk {
    reader: Fuse<JoinHandle<Error>>,
    writer: Fuse<JoinHandle<Result<(), Error>>>,
    abort: [AbortHandle; 2],
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.abort.iter().for_each(AbortHandle::abort);
    }
}

/// Starts the two connections over `socket`: plugin service, runtime service.
pub(crate) fn open(socket: UnixStream) -> (Trunk, Connection, Connection) {
    let (read, write) = socket.into_split();
    let (to_plugin, from_runtime) = incoming::channel(INCOMING);
    let (to_runtime, answers) = incoming::channel(INCOMING);
    let (sender, frames) = outgoing::channel(OUTGOING);
    let reader = tokio::spawn(read_trunk(read, to_plugin, to_runtime));
    let writer = tokio::spawn(write_trunk(write, frames));
    let abort = [reader.abort_handle(), writer.abort_handle()];
    let trunk = Trunk {
        reader: reader.fuse(),
        writer: writer.fuse(),
        abort,
    };
    let plugin = Connection::new(PLUGIN_SERVICE, from_runtime, sender.clone());
    let runtime = Connection::new(RUNTIME_SERVICE, answers, sender);
    (trunk, plugin, runtime)
}

impl Trunk {
    /// Waits for the end of the connection, and says why it came.
    pub(crate) async fn closed(&mut self) -> Error {
        let joined = tokio::select! {
            // What was received explains more than a failed write does.
            biased;
            reason = &mut self.reader => reason,
            Ok(Err(reason)) = &mut self.writer => Ok(reason),
        };
        // A task that was cancelled: the tokio runtime is going away.
        joined.unwrap_or(Error::Closed)
    }

    /// Waits until what the connections sent is written. They must be dropped.
    pub(crate) async fn flush(&mut self) {
        if self.writer.is_terminated() {
            return;
        }
        if let Ok(Err(error)) = (&mut self.writer).await {
            log::debug!("last answers not written: {error}");
        }
    }
}

async fn read_trunk(
    mut socket: OwnedReadHalf,
    plugin: incoming::Sender<Vec<u8>>,
    runtime: incoming::Sender<Vec<u8>>,
) -> Error {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ];
    loop {
        let mut input = match socket.read(&mut buffer).await {
            Ok(0) => {
                return decoder
                    .finish()
                    .map_or_else(Error::from, |()| Error::Closed);
            }
            Ok(length) => &buffer[..length],
            Err(source) => {
                return Error::Io {
                    call: "read",
                    source,
                };
            }
        };
        while !input.is_empty() {
            let frame = match decoder.next(&mut input) {
                Ok(Some(frame)) => frame,
                Ok(None) => continue,
                // Where the next frame begins is unknown: the connection ends.
                // Fails open: the runtime goes on without the plugin until it
                // has connected anew.
                Err(error) => return error.into(),
            };
            let connection = match frame.connection {
                // An empty read would be taken for the end of the stream.
                _ if frame.payload.is_empty() => continue,
                PLUGIN_SERVICE => &plugin,
                RUNTIME_SERVICE => &runtime,
                unknown => {
                    log::debug!("dropped a frame for unknown connection {unknown}");
                    continue;
                }
            };
            if connection.send(frame.payload).await.is_err() {
                // The RPC layer met what is not its protocol. Fails open: the
                // runtime goes on without the plugin until it has connected anew.
                return Error::Abandoned {
                    connection: frame.connection,
                };
            }
        }
    }
}

async fn write_trunk(
    mut socket: OwnedWriteHalf,
    mut frames: outgoing::Receiver<Vec<u8>>,
) -> Result<(), Error> {
    while let Some(frame) = frames.next().await {
        socket
            .write_all(&frame)
            .await
            // Fails open: an answer that can't be written is no refusal.
            .map_err(|source| Error::Io {
                call: "write",
                source,
            })?;
    }
    Ok(())
}

/// One of the two connections, as the byte stream that ttrpc expects.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u32,
    incoming: incoming::Receiver<Vec<u8>>,
    /// The received frame that is being read, and how much of it has been.
    current: (Vec<u8>, usize),
    outgoing: outgoing::Sender<Vec<u8>>,
    shape: Shape,
}

impl Connection {
    fn new(
        id: u32,
        incoming: incoming::Receiver<Vec<u8>>,
        outgoing: outgoing::Sender<Vec<u8>>,
    ) -> Self {
        Self {
            id,
            incoming,
            current: (Vec::new(), 0),
            outgoing,
            shape: Shape::default(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.current.1 == this.current.0.len() {
            match ready!(this.incoming.poll_recv(context)) {
                Some(payload) => this.current = (payload, 0),
                None => return Poll::Ready(Ok(())),
            }
        }
        let (payload, read) = &mut this.current;
        let length = (payload.len() - *read).min(buffer.remaining());
        buffer.put_slice(&payload[*read..*read + length]);
        *read += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_ready(context)).map_err(closed)?;
        let cut = self.shape.cut(bytes);
        let frame = frame::encode(self.id, &bytes[..cut]);
        self.outgoing.start_send(frame).map_err(closed)?;
        Poll::Ready(Ok(cut))
    }

    /// Nothing is held back here; the trunk's writer sends as fast as it can.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
