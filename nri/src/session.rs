//! From one connection to the next.

use std::{
    convert::Infallible,
    future::Future,
    io,
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{self, Fuse},
    stream,
};
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};
use ttrpc::{
    r#async::{Client, Server},
    asynchronous::transport::{Listener, Socket},
    context,
};

use crate::{
    Backoff, ConnectionEvent, Error, Options, Plugin,
    backoff::Delays,
    mux::{self, Connection, Trunk},
    notify,
    options::Endpoint,
    proto::{RegisterPluginRequest, nri_ttrpc},
    service::Service,
};

/// What the RPC layer is given to notice that the connection broke, or, beyond
/// a handler's limit, to send its last answers.
const SETTLE: Duration = Duration::from_millis(200);

/// Runs a plugin until `shutdown` is ready.
///
/// A plugin that connects to a socket does so again, for ever, when there is no
/// runtime, when the connection is lost, and when the runtime refuses or drops
/// the plugin; [`Plugin::connection`] is told each time. A plugin that was given
/// its connection ends with it.
///
/// After `shutdown` the calls that are being handled are answered before the
/// connection is closed. Dropping the future closes it at once.
///
/// Must be called within a tokio runtime, of either kind, that has time and I/O
/// enabled.
///
/// # Errors
///
/// Of a plugin that was given its connection: why it ended, unless the runtime
/// closed it after the plugin was registered. A plugin that connects to a socket
/// returns none.
pub async fn run<P: Plugin>(
    plugin: Arc<P>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let Options {
        name,
        index,
        endpoint,
        registration_timeout,
        backoff,
    } = options;
    let session = Session {
        plugin,
        name,
        index,
        registration_timeout,
    };
    let shutdown = pin!(shutdown.fuse());
    match endpoint {
        Endpoint::Connected(socket) => session.once(socket, shutdown).await,
        Endpoint::Socket(path) => {
            session.forever(&path, backoff, shutdown).await;
            Ok(())
        }
    }
}

/// Who made the socket at the other end. 0 stands for a process that this pid
/// namespace does not see.
fn peer(socket: &UnixStream) -> Option<i32> {
    let pid = socket.peer_cred().ok()?.pid()?;
    (pid > 0).then_some(pid)
}

/// What all connections of a plugin share.
struct Session<P> {
    plugin: Arc<P>,
    name: String,
    index: String,
    registration_timeout: Duration,
}

impl<P: Plugin> Session<P> {
    async fn forever(
        &self,
        path: &Path,
        backoff: Backoff,
        mut shutdown: Pin<&mut Fuse<impl Future<Output = ()>>>,
    ) {
        let mut delays = Delays::new(backoff);
        let mut connections = 0;
        loop {
            let connected = tokio::select! {
                biased;
                () = shutdown.as_mut() => return,
                connected = UnixStream::connect(path) => connected,
            };
            let reason = match connected {
                Ok(socket) => {
                    self.notify(&ConnectionEvent::Connected {
                        reconnects: connections,
                        runtime: peer(&socket),
                    });
                    connections += 1;
                    let service = Arc::new(Service::new(Arc::clone(&self.plugin)));
                    let Err(reason) = self.serve(socket, &service, shutdown.as_mut()).await else {
                        return;
                    };
                    if service.was_ready() {
                        delays.reset();
                    }
                    reason
                }
                Err(source) => Error::Connect {
                    path: path.to_owned(),
                    source,
                },
            };
            // Fails open: until it has connected anew, the plugin is not asked.
            let delay = delays.next();
            self.notify(&ConnectionEvent::Disconnected {
                reason: &reason,
                retry_in: Some(delay),
            });
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return,
                () = sleep(delay) => {}
            }
        }
    }

    async fn once(
        &self,
        socket: std::os::unix::net::UnixStream,
        shutdown: Pin<&mut Fuse<impl Future<Output = ()>>>,
    ) -> Result<(), Error> {
        let prepare = |source| Error::Io {
            call: "prepare",
            source,
        };
        socket.set_nonblocking(true).map_err(prepare)?;
        let socket = UnixStream::from_std(socket).map_err(prepare)?;
        self.notify(&ConnectionEvent::Connected {
            reconnects: 0,
            runtime: peer(&socket),
        });
        let service = Arc::new(Service::new(Arc::clone(&self.plugin)));
        let Err(reason) = self.serve(socket, &service, shutdown).await else {
            return Ok(());
        };
        self.notify(&ConnectionEvent::Disconnected {
            reason: &reason,
            retry_in: None,
        });
        match reason {
            // How a pre-installed plugin is told that its runtime stops.
            Error::Closed if service.was_configured() => Ok(()),
            reason => Err(reason),
        }
    }

    /// Uses one connection to its end; `Ok` if that was `shutdown`.
    async fn serve(
        &self,
        socket: UnixStream,
        service: &Arc<Service<P>>,
        shutdown: Pin<&mut Fuse<impl Future<Output = ()>>>,
    ) -> Result<(), Error> {
        let (mut trunk, plugin, runtime) = mux::open(socket);
        // Served first: the runtime calls before it has answered the registration.
        let mut server = start_server(plugin, Arc::clone(service)).await?;
        let client = Client::new(Socket::new(runtime));
        let ended = async {
            self.register(&client, &mut trunk).await?;
            // The connection's end is an error as well.
            Err::<Infallible, _>(trunk.closed().await)
        };
        tokio::select! {
            biased;
            Err(reason) = ended => Err(reason),
            () = shutdown => {
                drop(client);
                drain(&mut server, &mut trunk, service.limit(0)).await;
                Ok(())
            }
        }
    }

    /// Registers, or says why not: the runtime's answer, if it gave one, else
    /// what became of the connection.
    async fn register(&self, client: &Client, trunk: &mut Trunk) -> Result<(), Error> {
        let answered = |error: &Error| {
            matches!(
                error,
                Error::Register {
                    source: ttrpc::Error::RpcStatus(_),
                    ..
                }
            )
        };
        let mut request = pin!(self.request_registration(client));
        tokio::select! {
            biased;
            answer = request.as_mut() => match answer {
                Err(error) if !answered(&error) => {
                    Err(timeout(SETTLE, trunk.closed()).await.unwrap_or(error))
                }
                answer => answer,
            },
            // Runtimes close the connection right after they refused.
            reason = trunk.closed() => match timeout(SETTLE, request).await {
                Ok(Err(error)) if answered(&error) => Err(error),
                _ => Err(reason),
            },
        }
    }

    async fn request_registration(&self, client: &Client) -> Result<(), Error> {
        let request = RegisterPluginRequest {
            plugin_name: self.name.clone(),
            plugin_idx: self.index.clone(),
            ..RegisterPluginRequest::default()
        };
        let runtime = nri_ttrpc::RuntimeClient::new(client.clone());
        // Without a timeout of its own, which would not be told from other errors.
        let answer = runtime.register_plugin(context::with_timeout(0), &request);
        let (name, index) = (self.name.clone(), self.index.clone());
        match timeout(self.registration_timeout, answer).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(Error::Register {
                name,
                index,
                source,
            }),
            Err(_) => Err(Error::RegisterTimeout {
                name,
                index,
                after: self.registration_timeout,
            }),
        }
    }

    fn notify(&self, event: &ConnectionEvent<'_>) {
        notify(&*self.plugin, event);
    }
}

async fn start_server<P: Plugin>(
    connection: Connection,
    service: Arc<Service<P>>,
) -> Result<Server, Error> {
    let accepted = stream::once(future::ready(io::Result::Ok(connection)));
    // Never ends: Server::shutdown panics if its listener has.
    let listener = Listener::new(accepted.chain(stream::pending()));
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(nri_ttrpc::create_plugin(service));
    server
        .start()
        .await
        .map_err(|source| Error::Serve { source })?;
    // Kept by the caller: its connection ends with it.
    Ok(server)
}

/// Lets the calls that are being handled be answered: without an answer, the
/// runtime goes on (fails open).
async fn drain(server: &mut Server, trunk: &mut Trunk, limit: Duration) {
    let answered = async {
        if let Err(error) = server.shutdown().await {
            log::debug!("shut down plugin service: {error}");
        }
        trunk.flush().await;
    };
    if timeout(limit + SETTLE, answered).await.is_err() {
        // Fails open: the runtime goes on without the answer.
        log::warn!("calls not answered before shutdown");
    }
}
