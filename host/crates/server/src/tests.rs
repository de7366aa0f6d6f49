//! Tests of the server with a small service, and with clients that write raw bytes.

use super::*;
use cloakroom_base::quota::{QuotaTotals, Quotas};

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// A service with fixed answers. It answers `GET /` with `ok`, `/slow` when `release` is notified, and `/cut` with a body that
/// fails after its first bytes. It answers `/large-head` with only a head, before it reads the body.
struct Scripted {
    quotas: Arc<Quotas>,
    entered: mpsc::UnboundedSender<String>,
    release: Arc<Notify>,
}

enum ScriptedBody {
    Text(Option<Bytes>),
    Cut(Option<Bytes>),
    Endless,
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match &mut *self {
            Self::Endless => Some(Ok(Frame::data(Bytes::from_static(&[0; 16 << 10])))),
            Self::Text(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Cut(bytes) => Some(
                bytes
                    .take()
                    .map(Frame::data)
                    .ok_or_else(|| io::Error::other("late")),
            ),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Text(None))
    }
}

impl UntakenBody for ScriptedBody {}

/// The size of a field in the head of the response to `/large-head`, in bytes.
const LARGE_FIELD: usize = 8 << 10;

impl Service for Scripted {
    type Body = ScriptedBody;

    fn share(&self, address: IpAddr) -> QuotaPeer {
        self.quotas.peer(address)
    }

    async fn answer<B: RequestBody + 'static>(
        self: Arc<Self>,
        request: Request<B>,
        _: ConnectionEnds,
    ) -> Response<ScriptedBody> {
        let path = request.uri().path().to_owned();
        self.entered.send(path.clone()).unwrap();
        if path == "/slow" {
            self.release.notified().await;
        }
        if path == "/large-head" {
            tokio::spawn(async move { drop(request.into_body().collect().await) });
            let mut answer = Response::new(ScriptedBody::Text(None));
            let value = "v".repeat(LARGE_FIELD).parse().unwrap();
            answer.headers_mut().insert("x-long", value);
            return answer;
        }
        let text = Some(Bytes::from_static(b"ok"));
        Response::new(match path.as_str() {
            "/cut" => ScriptedBody::Cut(text),
            "/endless" => ScriptedBody::Endless,
            _ => ScriptedBody::Text(text),
        })
    }
}

struct Fixture {
    address: SocketAddr,
    quotas: Arc<Quotas>,
    shutdown: CancellationToken,
    release: Arc<Notify>,
    entered: mpsc::UnboundedReceiver<String>,
    count: Arc<ConnectionCount>,
    server: JoinHandle<()>,
}

impl Fixture {
    async fn start(options: ServerOptions) -> Self {
        Self::with_connections(limits::CONNECTIONS_MAX, options).await
    }

    async fn with_connections(connections: u64, options: ServerOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, release) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (sender, entered) = mpsc::unbounded_channel();
        let quotas = quotas(connections);
        let service = Arc::new(Scripted {
            quotas: Arc::clone(&quotas),
            entered: sender,
            release: Arc::clone(&release),
        });
        let count: Arc<ConnectionCount> = Arc::default();
        let counted = Arc::clone(&count);
        let server = tokio::spawn(run(listener, service, options, counted, shutdown.clone()));
        Self {
            address,
            quotas,
            shutdown,
            release,
            entered,
            count,
            server,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Connects from the loopback address with this last octet.
    async fn connect_from(&self, last: u8) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, last], 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Sends bytes on a new connection and returns all bytes that arrive until the server closes it.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }
}

fn quotas(connections: u64) -> Arc<Quotas> {
    Quotas::new(QuotaTotals {
        connections,
        ..QuotaTotals::default()
    })
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A connection that is cut with unread bytes is reset. The bytes received before that count.
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

fn impatient() -> ServerOptions {
    ServerOptions {
        header_timeout: Duration::from_millis(80),
        idle_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    }
}

/// A time that is shorter than any timeout of the server.
const SOON: Duration = Duration::from_secs(5);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_is_answered() {
    let fixture = Fixture::start(ServerOptions::default()).await;
    let answer = fixture.exchange(GET).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("ok"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_that_fails_late_is_cut_and_never_ended_cleanly() {
    let fixture = Fixture::start(ServerOptions::default()).await;
    let answer = fixture
        .exchange(b"GET /cut HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    assert!(!answer.contains("\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn responses_do_not_accumulate_for_a_client_that_reads_none() {
    // More than the system's buffers hold.
    const ANSWERS_MAX: usize = (16 << 20) / LARGE_FIELD;
    let mut fixture = Fixture::start(ServerOptions::default()).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(fixture.address).await.unwrap();
    let head = b"POST /large-head HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n";
    for _ in 0..ANSWERS_MAX {
        let is_sent = client.write_all(head).await.is_ok();
        let entered = fixture.entered.recv();
        let entered = tokio::time::timeout(Duration::from_secs(2), entered).await;
        if !is_sent || entered.is_err() {
            return;
        }
        // The response is sent before the body arrives, so hyper reads the next request.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _ = client.write_all(b"x").await;
    }
    panic!("all were answered");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let fixture = Fixture::start(impatient()).await;
    assert_eq!(fixture.exchange(b"GET / HTTP/1.1\r\nHost:").await, "");
}

#[tokio::test]
async fn a_client_that_never_completes_the_http2_preface_is_cut() {
    let fixture = Fixture::start(impatient()).await;
    assert_eq!(fixture.exchange(b"PRI * HT").await, "");
}

#[tokio::test]
async fn an_http2_client_without_requests_is_let_go() {
    let fixture = Fixture::start(impatient()).await;
    let preface_and_settings =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let mut stream = fixture.connect().await;
    stream.write_all(preface_and_settings).await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    assert_eq!(all.get(3), Some(&4), "the server's SETTINGS came first");
}

#[tokio::test]
async fn an_unread_http2_stream_is_reset_and_the_others_continue() {
    let fixture = Fixture::start(impatient()).await;
    let stream = fixture.connect().await;
    let mut client = h2::client::Builder::new();
    client.initial_connection_window_size(1 << 20);
    let (mut client, connection) = client.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut ask = |path: &str| {
        let request = Request::get(format!("http://h{path}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let (unread, read) = (ask("/endless"), ask("/endless"));
    let (mut unread, mut read) = (unread.await.unwrap(), read.await.unwrap());
    let started = std::time::Instant::now();
    // Receives until its window is full and never enlarges the window.
    let stalling = async {
        loop {
            if let Err(error) = unread.body_mut().data().await.unwrap() {
                return error;
            }
        }
    };
    let reading = async {
        while started.elapsed() < Duration::from_millis(900) {
            let piece = read.body_mut().data().await.unwrap().unwrap();
            let flow = read.body_mut().flow_control();
            flow.release_capacity(piece.len()).unwrap();
        }
    };
    let (error, ()) = tokio::join!(stalling, reading);
    assert!(error.is_reset(), "{error}");
}

#[tokio::test]
async fn a_silent_connection_is_closed_when_it_is_idle_for_too_long() {
    let fixture = Fixture::start(impatient()).await;
    let mut stream = fixture.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_large_head_is_refused_with_431() {
    let fixture = Fixture::start(ServerOptions::default()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
        "a".repeat(40 << 10)
    );
    assert!(
        fixture
            .exchange(long.as_bytes())
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "X: y\r\n".repeat(101)
    );
    assert!(
        fixture
            .exchange(many.as_bytes())
            .await
            .starts_with("HTTP/1.1 431 ")
    );
}

#[tokio::test]
async fn framing_that_can_be_read_in_two_ways_is_refused_or_ends_the_connection() {
    let fixture = Fixture::start(ServerOptions::default()).await;
    let refused = [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        " folded: x\r\n",
    ];
    for framing in refused {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\nhello");
        let answer = fixture.exchange(request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 "),
            "{framing:?} -> {answer}"
        );
    }
    // RFC 9112, section 6.1: if both headers are present, the chunks are used, and the connection must not be used again.
    let both = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let answer = fixture.exchange(both.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
}

#[tokio::test]
async fn connections_are_counted_while_they_are_open() {
    let mut fixture = Fixture::start(ServerOptions::default()).await;
    fixture.exchange(GET).await;
    assert_eq!(fixture.entered.recv().await.unwrap(), "/");
    let mut slow = fixture.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(fixture.entered.recv().await.unwrap(), "/slow");
    while fixture.count.open() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!((fixture.count.open(), fixture.count.accepted()), (1, 2));

    fixture.release.notify_one();
    read_to_end(&mut slow).await;
    fixture.shutdown.cancel();
    fixture.server.await.unwrap();

    assert_eq!((fixture.count.open(), fixture.count.accepted()), (0, 2));
}

#[tokio::test]
async fn shutdown_lets_a_request_under_way_finish_and_closes_idle_connections() {
    let mut fixture = Fixture::start(ServerOptions::default()).await;
    let mut idle = fixture.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(fixture.entered.recv().await.unwrap(), "/");
    let mut slow = fixture.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(fixture.entered.recv().await.unwrap(), "/slow");

    fixture.shutdown.cancel();
    assert!(
        read_to_end(&mut idle).await.contains("ok"),
        "the idle connection is closed, not reset"
    );
    fixture.release.notify_one();

    let answer = read_to_end(&mut slow).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("ok"),
        "{answer}"
    );
    fixture.server.await.unwrap();
    assert!(
        TcpStream::connect(fixture.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_request_that_outlives_the_grace_period_is_cut() {
    let mut fixture = Fixture::start(ServerOptions {
        grace: Duration::from_millis(50),
        ..ServerOptions::default()
    })
    .await;
    let mut slow = fixture.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(fixture.entered.recv().await.unwrap(), "/slow");
    fixture.shutdown.cancel();
    fixture.server.await.unwrap();
    assert_eq!(read_to_end(&mut slow).await, "");
}

#[tokio::test]
async fn clients_without_a_connection_wait_at_the_connection_limit() {
    let mut fixture = Fixture::with_connections(1, ServerOptions::default()).await;
    let mut first = fixture.connect().await;
    first
        .write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(fixture.entered.recv().await.unwrap(), "/slow");
    let mut second = fixture.connect_from(2).await;
    second.write_all(GET).await.unwrap();
    assert!(
        fixture.entered.try_recv().is_err(),
        "the second request has to wait"
    );
    fixture.release.notify_one();
    assert!(read_to_end(&mut first).await.contains("ok"));
    assert!(read_to_end(&mut second).await.contains("ok"));
}

#[tokio::test]
async fn a_client_refused_a_connection_does_not_block_another_client() {
    let mut fixture = Fixture::with_connections(3, ServerOptions::default()).await;
    let mut idle = fixture.connect_from(2).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = fixture.connect_from(1).await;
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(fixture.entered.recv().await.unwrap(), "/slow");
        busy.push(stream);
    }
    let told = || {
        let connections = QuotaResource::Connections;
        (
            fixture.quotas.refused(connections),
            fixture.quotas.revoked(connections),
        )
    };

    let mut further = fixture.connect_from(1).await;
    let closed = tokio::time::timeout(SOON, read_to_end(&mut further)).await;
    assert_eq!(closed.as_deref(), Ok(""));
    assert_eq!(told(), (1, 0), "the idle one is of a smaller client");

    let mut newcomer = fixture.connect_from(3).await;
    newcomer.write_all(GET).await.unwrap();
    let answer = tokio::time::timeout(SOON, read_to_end(&mut newcomer)).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(told(), (1, 1));
}

#[tokio::test]
async fn a_client_waits_only_for_its_first_connection_and_not_forever() {
    let quotas = quotas(2);
    let peer = |last: u8| quotas.peer([127, 0, 0, last].into());
    let reserve = |last: u8| peer(last).reserve(QuotaResource::Connections, 1).unwrap();
    let (first, second) = (reserve(1), reserve(1));
    let in_time = |last: u8, patience: Duration| {
        let share = peer(last);
        async move { tokio::time::timeout(SOON, reserve_connection(&share, patience)).await }
    };
    let long = 2 * SOON;

    assert_eq!(in_time(1, long).await.unwrap().unwrap_err(), QuotaFull);
    let short = Duration::from_millis(30);
    assert_eq!(in_time(2, short).await.unwrap().unwrap_err(), QuotaFull);

    let (found, ()) = tokio::join!(in_time(2, long), async { drop(first) });
    let found = found.unwrap().unwrap();
    assert!(found.waits());
    assert!(found.set_phase(RevocablePhase::Working).is_ok());

    // Meanwhile the client of the waiting call gets another connection.
    let (refused, third) = tokio::join!(in_time(3, long), async {
        drop(second);
        reserve(3)
    });
    assert_eq!(refused.unwrap().unwrap_err(), QuotaFull);
    drop((found, third));
}
