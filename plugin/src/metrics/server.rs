//! The metrics over HTTP, on a TCP address or a Unix socket. Answers a few at a
//! time, and reads the maps for one of them at a time: whoever asks can't hold up
//! the daemon.

use std::{
    convert::Infallible,
    fs, io, net,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net as unix,
    },
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::timeout,
};

use super::Exposition;
use crate::{daemon::Event, service, settings::Listen};

/// Connections at a time; others wait.
const CONNECTIONS_MAX: usize = 8;
/// Longest life of a connection.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// What the daemon's loop may take to say that it lives.
const HEALTH_TIME: Duration = Duration::from_secs(5);

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// The kernel.
    #[error("metrics on {listen}: {call}: {source}")]
    Io {
        listen: Listen,
        call: &'static str,
        source: io::Error,
    },
    /// What is there was not made by us.
    #[error("metrics on {0}: there is a file that is no socket; remove it or name another path")]
    NoSocket(Listen),
    /// Another process listens there.
    #[error("metrics on {0}: another process listens there")]
    InUse(Listen),
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answers {
    registry: Arc<Registry>,
    daemon: Sender<Event>,
    turn: Arc<Semaphore>,
}

type Answer = Response<Full<Bytes>>;

impl Answers {
    pub(crate) fn new(registry: Registry, daemon: Sender<Event>) -> Self {
        Self {
            registry: Arc::new(registry),
            daemon,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/healthz") {
            return text(StatusCode::NOT_FOUND, "expected /metrics or /healthz\n");
        }
        if request.method() != Method::GET {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n");
            let headers = answer.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        if path == "/metrics" {
            let accept = request.headers().get(ACCEPT);
            let accept = accept.and_then(|value| value.to_str().ok());
            self.scrape(Exposition::accepted(accept.unwrap_or_default()))
                .await
        } else {
            self.health().await
        }
    }

    async fn scrape(&self, exposition: Exposition) -> Answer {
        // Never closed.
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let registry = Arc::clone(&self.registry);
        // A system call an entry: not on the thread that answers the runtime. Whoever
        // asked may go; the turn is over when the work is.
        let encoded = tokio::task::spawn_blocking(move || {
            let encoded = exposition.encode(&registry);
            drop(turn);
            encoded
        })
        .await;
        match encoded {
            Ok(Ok(encoded)) => {
                let mut answer = Response::new(Full::from(encoded));
                let kind = HeaderValue::from_static(exposition.content_type());
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer
            }
            Ok(Err(_)) | Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics could not be encoded, see the log\n",
            ),
        }
    }

    async fn health(&self) -> Answer {
        match timeout(HEALTH_TIME, service::answers(&self.daemon)).await {
            Ok(true) => text(StatusCode::OK, "ok\n"),
            Ok(false) => text(StatusCode::SERVICE_UNAVAILABLE, "the daemon's loop ended\n"),
            Err(_) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the daemon's loop does not answer\n",
            ),
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}

/// A socket that listens; a Unix socket is removed with it.
#[derive(Debug)]
pub(crate) enum Server {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Server {
    /// Listens. To be called within the tokio runtime.
    pub(crate) fn bind(listen: &Listen) -> Result<Self, ServerError> {
        let failed = |call| {
            move |source| ServerError::Io {
                listen: listen.clone(),
                call,
                source,
            }
        };
        match listen {
            Listen::Tcp(address) => {
                let listener = net::TcpListener::bind(address).map_err(failed("bind"))?;
                listener.set_nonblocking(true).map_err(failed("fcntl"))?;
                let listener = TcpListener::from_std(listener).map_err(failed("epoll_ctl"))?;
                Ok(Self::Tcp(listener))
            }
            Listen::Unix(path) => {
                check_stale(path, listen)?;
                // Under another name until nobody else may connect.
                let new = path.with_extension(format!("{}.new", std::process::id()));
                let listener = unix::UnixListener::bind(&new).map_err(failed("bind"))?;
                let mode = fs::Permissions::from_mode(0o600);
                let placed = fs::set_permissions(&new, mode).and_then(|()| fs::rename(&new, path));
                if let Err(error) = placed {
                    fs::remove_file(&new).ok();
                    return Err(failed("rename")(error));
                }
                listener.set_nonblocking(true).map_err(failed("fcntl"))?;
                let listener = UnixListener::from_std(listener).map_err(failed("epoll_ctl"))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Serves for as long as the tokio runtime runs.
    pub(crate) async fn run(self, answers: Answers) {
        let answers = Arc::new(answers);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let answers = Arc::clone(&answers);
            let accepted = match &self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        talk(stream, &answers).await;
                        drop(place);
                    })
                }),
                Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        talk(stream, &answers).await;
                        drop(place);
                    })
                }),
            };
            if let Err(error) = accepted {
                log::debug!("metrics: accept: {error}");
                // Out of descriptors, most likely: not again at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            fs::remove_file(path).ok();
        }
    }
}

/// What a process before left is replaced; what is not a socket is not ours.
fn check_stale(path: &Path, listen: &Listen) -> Result<(), ServerError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ServerError::Io {
            listen: listen.clone(),
            call: "stat",
            source,
        }),
        Ok(found) if !found.file_type().is_socket() => Err(ServerError::NoSocket(listen.clone())),
        Ok(_) if unix::UnixStream::connect(path).is_ok() => Err(ServerError::InUse(listen.clone())),
        Ok(_) => Ok(()),
    }
}

/// Answers one request.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, answers: &Answers) {
    let serve =
        service_fn(|request| async move { Ok::<_, Infallible>(answers.answer(&request).await) });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEALTH_TIME)
        .serve_connection(TokioIo::new(stream), serve);
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("metrics: {error}"),
        Err(_) => log::debug!("metrics: a connection took too long"),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
