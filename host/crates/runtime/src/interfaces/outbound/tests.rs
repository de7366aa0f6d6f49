//! Exchanges over real sockets on this machine. Only the names are resolved by the test.

mod bounds;
mod tls;
mod turns;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wasmtime_wasi_http::{Error, WasiBody};

use super::connect::OutboundConnectError;
use super::exchange::{ExchangeError, ExchangeTimeouts, exchange};
use super::grant::{Destination, NormalizedHost};
use super::pool::{GuestPool, OutboundPool};
use super::resolve::{Lookup, Places, Resolve};
use crate::engine::memory_tally::MemoryTally;
use cloakroom_base::quota::ClientConnection;

/// Resolves every name to this machine, and counts the look-ups.
#[derive(Default)]
struct Here(AtomicUsize);

impl Resolve for Here {
    fn look_up(&self, _: &str, port: u16, _: Places) -> Lookup {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
    }
}

const PATIENCE: ExchangeTimeouts = ExchangeTimeouts {
    wait: Duration::from_secs(20),
    connect: Duration::from_secs(20),
    first_byte: Duration::from_secs(20),
    between_bytes: Duration::from_secs(20),
    rest: Duration::from_secs(20),
};

/// The same, for a call that must find no connection.
const IMPATIENT: ExchangeTimeouts = ExchangeTimeouts {
    wait: Duration::from_millis(50),
    connect: Duration::from_millis(50),
    ..PATIENCE
};

fn pool(max: usize) -> Arc<OutboundPool> {
    OutboundPool::with_resolver(max, Arc::new(Here::default()))
}

/// A guest with its own pool that has free connections.
fn guest() -> Arc<GuestPool> {
    GuestPool::new(&pool(8), 8)
}

fn destination(port: u16) -> Destination {
    Destination {
        tls: false,
        host: NormalizedHost::Name("api.test".to_owned()),
        port,
        private: true,
    }
}

fn request(method: Method) -> Request<WasiBody> {
    let body = match method {
        Method::POST => Full::new(Bytes::from("sent"))
            .map_err(Into::into)
            .boxed_unsync(),
        _ => Empty::new().map_err(Into::into).boxed_unsync(),
    };
    let request = Request::builder()
        .method(method)
        .uri("http://user-of.test/path?query");
    request.body(body).unwrap()
}

async fn send_with(
    guest: &Arc<GuestPool>,
    destination: Destination,
    method: Method,
    timeouts: ExchangeTimeouts,
) -> Result<Response<WasiBody>, ExchangeError> {
    let (guest, nobody) = (Arc::clone(guest), ClientConnection::default());
    let (tally, request) = (MemoryTally::new(1 << 20), request(method));
    let sent = exchange(guest, nobody, destination, &tally, request, timeouts);
    sent.await.map(|(response, _ended)| response)
}

async fn send(guest: &Arc<GuestPool>, port: u16) -> Result<Response<WasiBody>, ExchangeError> {
    send_with(guest, destination(port), Method::GET, PATIENCE).await
}

/// Reads the body of a response to its end.
async fn text(response: Response<WasiBody>) -> Result<String, Error> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// Waits until a condition holds that follows from earlier actions.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come true"));
}

/// A server that answers each request of a connection with the next of `answers`, and closes the connection after the
/// last.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The head announces more bytes than are sent.
const STALLS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\nbegun";
/// No response, on a connection that stays open.
const SILENT: &str = "";

impl Server {
    async fn start(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, requests) = (
            Arc::clone(&server.connections),
            Arc::clone(&server.requests),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, answers, Arc::clone(&requests)));
            }
        });
        server
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &'static [&'static str],
    requests: Arc<AtomicUsize>,
) -> io::Result<()> {
    for answer in answers {
        if !read_request(&mut stream).await? {
            return Ok(());
        }
        requests.fetch_add(1, Ordering::Relaxed);
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        if *answer == SILENT || *answer == STALLS {
            std::future::pending::<()>().await;
        }
    }
    // One more request is read, but not answered.
    if read_request(&mut stream).await? {
        requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads a head, and a body of the four bytes that the tests send. Returns false at the end of the stream.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
    let mut read = Vec::new();
    while !(read.ends_with(b"\r\n\r\n") || read.ends_with(b"\r\n\r\nsent"))
        || read.starts_with(b"POST") && !read.ends_with(b"sent")
    {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let server = Server::start(&[OK; 4]).await;
    let guest = guest();
    for sent in 1..=4 {
        let method = if sent % 2 == 0 {
            Method::POST
        } else {
            Method::GET
        };
        let answer = send_with(&guest, destination(server.port), method, PATIENCE)
            .await
            .unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
        eventually("idle", || guest.open() == 1 && guest.usage().idle == 1).await;
        assert_eq!((server.connections(), server.requests()), (1, sent));
    }
}

#[tokio::test]
async fn a_request_that_was_written_is_never_sent_again() {
    for method in [Method::GET, Method::POST] {
        // The server reads the second request and closes the connection.
        let server = Server::start(&[OK]).await;
        let guest = guest();
        text(send(&guest, server.port).await.unwrap())
            .await
            .unwrap();
        eventually("idle", || guest.usage().idle == 1).await;
        let lost = send_with(&guest, destination(server.port), method, PATIENCE).await;
        assert!(matches!(lost, Err(ExchangeError::Failed(_))), "{lost:?}");
        assert_eq!((server.connections(), server.requests()), (1, 2));
    }
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used() {
    let closes = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::start(Box::leak(Box::new([closes]))).await;
    let guest = guest();
    for sent in 1..=3 {
        let answer = send(&guest, server.port).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
        eventually("closed", || guest.open() == 0).await;
        assert_eq!(server.connections(), sent);
    }
}

#[tokio::test]
async fn no_guest_gets_the_connection_of_another() {
    let server = Server::start(&[OK; 2]).await;
    let pool = pool(8);
    let guests = [GuestPool::new(&pool, 4), GuestPool::new(&pool, 4)];
    for (number, guest) in guests.iter().enumerate() {
        text(send(guest, server.port).await.unwrap()).await.unwrap();
        eventually("idle", || pool.usage().idle == number + 1).await;
    }
    assert_eq!((server.connections(), server.requests()), (2, 2));
}

#[tokio::test]
async fn a_connection_to_a_private_address_serves_no_grant_that_asks_for_public_ones() {
    let server = Server::start(&[OK; 2]).await;
    let guest = guest();
    text(send(&guest, server.port).await.unwrap())
        .await
        .unwrap();
    eventually("idle", || guest.usage().idle == 1).await;
    let public = Destination {
        private: false,
        ..destination(server.port)
    };
    let refused = send_with(&guest, public, Method::GET, PATIENCE).await;
    assert!(matches!(
        refused,
        Err(ExchangeError::Connect(OutboundConnectError::NotPublic(_)))
    ));
    assert_eq!((server.connections(), server.requests()), (1, 1));
}

#[tokio::test]
async fn a_name_is_looked_up_once_for_each_connection() {
    let server = Server::start(&[OK; 2]).await;
    let resolver = Arc::new(Here::default());
    let guest = GuestPool::new(
        &OutboundPool::with_resolver(8, Arc::clone(&resolver) as _),
        8,
    );
    for _ in 0..2 {
        text(send(&guest, server.port).await.unwrap())
            .await
            .unwrap();
        eventually("idle", || guest.usage().idle == 1).await;
    }
    assert_eq!(
        (server.connections(), resolver.0.load(Ordering::Relaxed)),
        (1, 1)
    );
}

#[tokio::test]
async fn a_body_arrives_as_it_is_sent() {
    let server = Server::start(&[STALLS]).await;
    let guest = guest();
    let mut answer = send(&guest, server.port).await.unwrap();
    let frame = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "begun");
}

#[tokio::test]
async fn dropping_a_response_closes_its_connection() {
    let server = Server::start(&[STALLS]).await;
    let guest = guest();
    let answer = send(&guest, server.port).await.unwrap();
    assert_eq!(guest.open(), 1);
    drop(answer);
    eventually("closed", || guest.open() == 0).await;
}

#[tokio::test]
async fn dropping_a_call_closes_its_connection() {
    let server = Server::start(&[SILENT]).await;
    let guest = guest();
    let call = send(&guest, server.port);
    let begun = async { eventually("sent", || server.requests() == 1).await };
    tokio::select! {
        _ = call => panic!("it is not answered"),
        () = begun => {}
    }
    eventually("closed", || guest.open() == 0).await;
}

#[tokio::test]
async fn each_phase_of_an_exchange_has_its_own_timeout() {
    let short = Duration::from_millis(30);
    let guest = guest();
    let server = Server::start(&[SILENT]).await;
    let timeouts = ExchangeTimeouts {
        first_byte: short,
        ..PATIENCE
    };
    let late = send_with(&guest, destination(server.port), Method::GET, timeouts).await;
    assert!(
        matches!(
            late,
            Err(ExchangeError::Failed(Error::ConnectionReadTimeout))
        ),
        "{late:?}"
    );

    let server = Server::start(&[STALLS]).await;
    let timeouts = ExchangeTimeouts {
        between_bytes: short,
        ..PATIENCE
    };
    let answer = send_with(&guest, destination(server.port), Method::GET, timeouts).await;
    let late = text(answer.unwrap()).await;
    assert!(
        matches!(late, Err(Error::ConnectionReadTimeout)),
        "{late:?}"
    );
    eventually("closed", || guest.open() == 0).await;
}

#[tokio::test]
async fn a_request_carries_the_name_of_its_server_and_only_the_path() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let guest = guest();
    let head = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 1024];
        let read = stream.read(&mut head).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
        String::from_utf8(head[..read].to_vec()).unwrap()
    };
    let tally = MemoryTally::new(1 << 20);
    let mut request = request(Method::GET);
    *request.uri_mut() = format!("http://API.Test.:{port}/a?b").parse().unwrap();
    let sent = exchange(
        guest,
        ClientConnection::default(),
        destination(port),
        &tally,
        request,
        PATIENCE,
    );
    let (answer, head) = tokio::join!(sent, head);
    answer.unwrap();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("\r\nhost: api.test:{port}\r\n")),
        "{head}"
    );
}
