//! A runtime, as far as a plugin sees it: the other end of the trunk.
//!
//! Its connections behave as those of the Go runtimes do. They hand out whole
//! frames through a buffer of 4096 bytes, and end the trunk if one does not fit
//! or if 256 of them wait.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future, stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use ttrpc::{
    r#async::{Client, Server, TtrpcContext},
    asynchronous::transport::{Listener, Socket},
    context,
};

use crate::{
    proto::{
        ConfigureRequest, Empty, RegisterPluginRequest, SynchronizeRequest,
        nri_ttrpc::{self, PluginClient},
    },
    shape::GO_BUFFER,
};

/// Waiting longer than this is a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits what must happen.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("nothing happened")
}

/// How the runtime answers a registration.
#[derive(Clone, Copy)]
pub(super) enum Registration {
    Accept,
    Refuse,
    Ignore,
}

pub(super) struct FakeRuntime {
    /// Calls the plugin.
    pub(super) plugin: PluginClient,
    /// The same, for what isn't in the schema.
    pub(super) client: Client,
    /// Writes to the trunk, frames or not.
    raw: mpsc::UnboundedSender<Item>,
    registered: mpsc::UnboundedReceiver<RegisterPluginRequest>,
    trunk: Arc<Mutex<TrunkState>>,
    tasks: JoinSet<()>,
    _server: Server,
}

/// What is written to the trunk.
enum Item {
    Bytes(Vec<u8>),
    /// Says when all before it are written.
    Notify(oneshot::Sender<()>),
}

/// What ended the trunk, and the lengths of the frames received.
#[derive(Default)]
struct TrunkState {
    fatal: Option<String>,
    frames: Vec<(u32, usize)>,
}

impl FakeRuntime {
    pub(super) async fn new(socket: UnixStream, registration: Registration) -> Self {
        let (mut read, mut write) = socket.into_split();
        let (raw, mut to_write) = mpsc::unbounded_channel();
        let trunk = Arc::new(Mutex::new(TrunkState::default()));
        let mut queues = Vec::new();
        let mut connection = |id: u32| {
            // As many as Go's connections queue.
            let (sender, frames) = mpsc::channel(256);
            queues.push((id, sender));
            let (outgoing, trunk) = (raw.clone(), Arc::clone(&trunk));
            GoConnection {
                id,
                frames,
                buffered: VecDeque::new(),
                outgoing,
                trunk,
            }
        };
        let (plugin, runtime) = (connection(1), connection(2));

        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(item) = to_write.recv().await {
                match item {
                    Item::Bytes(bytes) if write.write_all(&bytes).await.is_err() => return,
                    Item::Bytes(_) => {}
                    Item::Notify(written) => drop(written.send(())),
                }
            }
        });
        let state = Arc::clone(&trunk);
        tasks.spawn(async move {
            while let Ok(id) = read.read_u32().await {
                let length = read.read_u32().await.unwrap() as usize;
                let mut payload = vec![0; length];
                read.read_exact(&mut payload).await.unwrap();
                let mut state = state.lock().unwrap();
                state.frames.push((id, length));
                let queue = &queues.iter().find(|(queue, _)| *queue == id).unwrap().1;
                if queue.try_send(payload).is_err() {
                    state
                        .fatal
                        .get_or_insert("failed to queue payload for reading".into());
                    return;
                }
            }
        });

        let (registrations, registered) = mpsc::unbounded_channel();
        let service = Arc::new(RuntimeService {
            registrations,
            registration,
        });
        let accepted = stream::once(future::ready(io::Result::Ok(runtime)));
        let mut server = Server::new()
            .add_listener(Listener::new(accepted.chain(stream::pending())))
            .register_service(nri_ttrpc::create_runtime(service));
        server.start().await.unwrap();
        let client = Client::new(Socket::new(plugin));
        let plugin = PluginClient::new(client.clone());
        Self {
            plugin,
            client,
            raw,
            registered,
            trunk,
            tasks,
            _server: server,
        }
    }

    pub(super) async fn registered(&mut self) -> (String, String) {
        let request = soon(self.registered.recv()).await.unwrap();
        (request.plugin_name, request.plugin_idx)
    }

    /// Goes through with the handshake; returns the events subscribed to.
    pub(super) async fn handshake(&mut self, request_timeout: i64) -> i32 {
        self.registered().await;
        let events = self.configure(request_timeout).await;
        self.plugin
            .synchronize(within(), &SynchronizeRequest::default())
            .await
            .unwrap();
        events
    }

    pub(super) async fn configure(&mut self, request_timeout: i64) -> i32 {
        let request = ConfigureRequest {
            config: "some: text".into(),
            runtime_name: "containerd".into(),
            runtime_version: "v2.1.4".into(),
            registration_timeout: 5000,
            request_timeout,
            ..ConfigureRequest::default()
        };
        self.plugin
            .configure(within(), &request)
            .await
            .unwrap()
            .events
    }

    pub(super) fn write_raw(&self, bytes: &[u8]) {
        self.raw.send(Item::Bytes(bytes.to_vec())).ok();
    }

    /// What a Go runtime would have died of.
    pub(super) fn fatal(&self) -> Option<String> {
        self.trunk.lock().unwrap().fatal.clone()
    }

    /// Lengths of the frames received on a connection.
    pub(super) fn frames(&self, connection: u32) -> Vec<usize> {
        let state = self.trunk.lock().unwrap();
        state
            .frames
            .iter()
            .filter(|(id, _)| *id == connection)
            .map(|(_, n)| *n)
            .collect()
    }

    /// Goes away when all is written.
    pub(super) async fn stop_after_writing(self) {
        let (written, all) = oneshot::channel();
        self.raw.send(Item::Notify(written)).ok();
        soon(all).await.unwrap();
        self.stop().await;
    }

    /// Goes away, as far as the plugin can see.
    pub(super) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// A call's timeout, as runtimes set one.
pub(super) fn within() -> context::Context {
    context::with_duration(PATIENCE)
}

struct RuntimeService {
    registrations: mpsc::UnboundedSender<RegisterPluginRequest>,
    registration: Registration,
}

#[async_trait]
impl nri_ttrpc::Runtime for RuntimeService {
    async fn register_plugin(
        &self,
        _: &TtrpcContext,
        request: RegisterPluginRequest,
    ) -> ttrpc::Result<Empty> {
        self.registrations.send(request).ok();
        match self.registration {
            Registration::Accept => Ok(Empty::default()),
            Registration::Refuse => {
                let status = ttrpc::get_status(ttrpc::Code::UNKNOWN, "not today");
                Err(ttrpc::Error::RpcStatus(status))
            }
            Registration::Ignore => future::pending().await,
        }
    }
}

/// `bufio.NewReaderSize(conn, 4096)` over a connection of Go's mux.
struct GoConnection {
    id: u32,
    frames: mpsc::Receiver<Vec<u8>>,
    buffered: VecDeque<u8>,
    outgoing: mpsc::UnboundedSender<Item>,
    trunk: Arc<Mutex<TrunkState>>,
}

impl AsyncRead for GoConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffered.is_empty() {
            let Some(frame) = ready!(self.frames.poll_recv(context)) else {
                return Poll::Ready(Ok(()));
            };
            // A long read is given the caller's buffer, a short one the reader's.
            let capacity = buffer.remaining().max(GO_BUFFER);
            if frame.len() > capacity {
                let problem = format!("ENOMEM: {} bytes into {capacity}", frame.len());
                self.trunk.lock().unwrap().fatal.get_or_insert(problem);
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
            self.buffered = frame.into();
        }
        while buffer.remaining() > 0 {
            let Some(byte) = self.buffered.pop_front() else {
                break;
            };
            buffer.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GoConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let length = u32::try_from(bytes.len()).unwrap();
        let header = [self.id.to_be_bytes(), length.to_be_bytes()].concat();
        self.outgoing
            .send(Item::Bytes([&header, bytes].concat()))
            .ok();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
