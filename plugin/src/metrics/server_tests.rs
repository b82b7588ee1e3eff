//! Real sockets, and a client that knows no more than HTTP/1.1 is.

use std::{
    io::{Read, Write},
    os::unix::fs::MetadataExt as _,
    sync::mpsc::{self, Receiver},
};

use super::{super::tests::registry, *};

/// What a request is answered with: status line, headers, body.
struct Said {
    head: String,
    body: String,
}

fn ask(mut stream: impl Read + Write, request: &str) -> Said {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Said {
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")
}

/// Runs `client` beside a server, in the order in which a user would.
fn with_server(listen: &Listen, client: impl FnOnce(&Listen) + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    with_daemon(listen, sender, client);
    drop(receiver);
}

fn with_daemon(
    listen: &Listen,
    daemon: Sender<Event>,
    client: impl FnOnce(&Listen) + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::bind(listen).unwrap();
        let listen = match &server {
            Server::Tcp(listener) => Listen::Tcp(listener.local_addr().unwrap()),
            Server::Unix(_, path) => Listen::Unix(path.clone()),
        };
        let answers = Answers::new(registry(false, false).0, daemon);
        let serving = tokio::spawn(server.run(answers));
        let asked = tokio::task::spawn_blocking(move || client(&listen)).await;
        serving.abort();
        asked.unwrap();
    });
}

fn any_port() -> Listen {
    "127.0.0.1:0".parse().unwrap()
}

fn tcp(listen: &Listen) -> net::TcpStream {
    let Listen::Tcp(address) = listen else {
        panic!("{listen} is no address");
    };
    net::TcpStream::connect(address).unwrap()
}

#[test]
fn metrics_are_served_on_tcp() {
    with_server(&any_port(), |listen| {
        let said = ask(tcp(listen), &get("/metrics"));
        assert!(said.head.starts_with("http/1.1 200"), "{}", said.head);
        assert!(
            said.head
                .contains("application/openmetrics-text; version=1.0.0")
        );
        assert!(said.body.contains("execblock_checked_total 10\n"));
        assert!(said.body.ends_with("# EOF\n"));
        let plain = "GET /metrics HTTP/1.1\r\nHost: node\r\nAccept: text/plain\r\n\r\n";
        let said = ask(tcp(listen), plain);
        assert!(
            said.head.contains("text/plain; version=0.0.4"),
            "{}",
            said.head
        );
        assert!(
            said.body
                .contains("# TYPE execblock_checked_total counter\n")
        );
        assert!(!said.body.contains("# EOF"));
    });
}

#[test]
fn metrics_are_served_on_a_unix_socket_of_roots_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    // What a process left that was killed.
    drop(unix::UnixListener::bind(&path).unwrap());
    let listen = Listen::Unix(path.clone());
    let at = path.clone();
    with_server(&listen, move |listen| {
        assert_eq!(fs::metadata(&at).unwrap().mode() & 0o777, 0o600);
        let stream = unix::UnixStream::connect(&at).unwrap();
        let said = ask(stream, &get("/metrics"));
        assert!(said.head.starts_with("http/1.1 200"), "{}", said.head);
        assert!(said.body.contains("execblock_checked_total 10\n"));
        assert!(matches!(Server::bind(listen), Err(ServerError::InUse(_))));
    });
    assert!(!path.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_no_socket_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "text").unwrap();
    let error = Server::bind(&Listen::Unix(path.clone())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("precious: there is a file that is no socket")
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

#[test]
fn what_is_not_there_is_not_found_and_only_get_is_allowed() {
    with_server(&any_port(), |listen| {
        for (request, status) in [
            (get("/"), "404"),
            (get("/metrics/"), "404"),
            (get("/metrics?name=a"), "200"),
            (get("/metrics").replace("GET", "POST"), "405"),
            (get("/healthz").replace("GET", "DELETE"), "405"),
            ("nonsense\r\n\r\n".to_owned(), "400"),
        ] {
            let said = ask(tcp(listen), &request);
            let expected = format!("http/1.1 {status}");
            assert!(said.head.starts_with(&expected), "{request}: {}", said.head);
            if status == "405" {
                assert!(said.head.contains("allow: get"), "{}", said.head);
            }
        }
    });
}

/// As the daemon's loop does.
fn answering(events: &Receiver<Event>) {
    while let Ok(Event::Ping { reply }) = events.recv() {
        reply.send(()).ok();
    }
}

#[test]
fn health_is_the_daemons_own() {
    let (sender, receiver) = mpsc::channel();
    let daemon = std::thread::spawn(move || answering(&receiver));
    with_daemon(&any_port(), sender, |listen| {
        let said = ask(tcp(listen), &get("/healthz"));
        assert!(said.head.starts_with("http/1.1 200"), "{}", said.head);
        assert_eq!(said.body, "ok\n");
    });
    daemon.join().unwrap();
    let (sender, receiver) = mpsc::channel();
    drop(receiver);
    with_daemon(&any_port(), sender, |listen| {
        let said = ask(tcp(listen), &get("/healthz"));
        assert!(said.head.starts_with("http/1.1 503"), "{}", said.head);
    });
}
