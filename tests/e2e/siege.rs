//! All hostile clients at once next to 100 good visitors, for a minute in `make test`. `make siege` runs it for half an hour on the release
//! build and also compares latency and memory, which are not reliable on a shared machine.
//!
//! `CLOAKROOM_SIEGE_SECONDS` sets the duration. From 300 seconds on, the latency is compared with the latency of an equally long phase
//! without the hostile clients, of at most five minutes.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::raw_h2::{INITIAL_WINDOW_SIZE, RawH2, connect_from};
use cloakroom_tests::wait::pause;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const VISITORS: usize = 100;
/// Runs of at least this duration compare latency and memory.
const COMPARED_FROM: Duration = Duration::from_secs(300);
/// The time after which the host's memory no longer grows.
const WARM_UP: Duration = Duration::from_secs(60);
const GROWTH_KIB_MAX: u64 = 64 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_visitors_get_their_answers_beside_all_hostile_clients() {
    let seconds = std::env::vars_os().find(|(name, _)| name == "CLOAKROOM_SIEGE_SECONDS");
    let seconds = seconds.map(|(_, text)| text.into_string().expect("digits"));
    let length = Duration::from_secs(seconds.map_or(60, |text| text.parse().expect("seconds")));
    raise_descriptors();
    let black_hole = black_hole().await;
    let host = Arc::new(besieged(black_hole));

    let is_compared = length >= COMPARED_FROM;
    let quiet = if is_compared {
        let latencies = visit(&host, length.min(COMPARED_FROM)).await;
        println!("without hostile clients: {}", summary(&latencies));
        Some(latencies)
    } else {
        None
    };

    let attack = Attack::start(host.address(), black_hole);
    pause(Duration::from_secs(2), "the attack alone").await;
    let memory = tokio::spawn(memory(Arc::clone(&host), length));
    let latencies = visit(&host, length).await;
    let connections = attack.stop().await;
    let memory = memory.await.unwrap();
    println!("beside them: {}", summary(&latencies));
    println!(
        "hostile connections made: {connections}; resident KiB, warm and largest after: {memory:?}"
    );

    // The minute proves something only if the attack took place.
    assert!(connections > 4_000, "{connections} hostile connections");
    if let Some(quiet) = quiet {
        let (before, beside) = (p99(&quiet), p99(&latencies));
        assert!(
            beside <= before * 2,
            "p99 {beside:?} during the attack, {before:?} without it"
        );
        assert!(
            memory.1 <= memory.0 + GROWTH_KIB_MAX,
            "memory grew: {memory:?}"
        );
    }
}

fn besieged(black_hole: SocketAddr) -> Host {
    let outbound = format!(
        "session = \"write\"\noutbound_hosts = [\"{black_hole}\"]\nlimits = {{ deadline = \"5s\" }}"
    );
    let hostile = "session = \"write\"\nlimits = { memory = \"16MiB\", deadline = \"5s\" }\nrollback = { enabled = false }";
    Config::over("memory:")
        .top("[log]\nlevel = \"warn,cloakroom::access=off\"\n")
        .guest("/session", "counter")
        .guest_with("/hello", "fixture-hello", "")
        .guest_with("/hostile", "fixture-faults", hostile)
        .guest_with("/upload", "fixture-faults", "session = \"write\"")
        .guest_with("/outbound", "fixture-session", &outbound)
        .start()
}

/// Runs visitors that each count in their own session. Some use the address of the hostile clients and some their own, and some use one
/// connection and some a new one for each visit. Returns all latencies.
async fn visit(host: &Arc<Host>, length: Duration) -> Vec<Duration> {
    let end = Instant::now() + length;
    let visitors = (0..VISITORS).map(|number| {
        let host = Arc::clone(host);
        tokio::spawn(async move {
            let address = match number % 2 {
                0 => Ipv4Addr::LOCALHOST,
                _ => Ipv4Addr::new(127, 9, 9, number as u8),
            };
            let browser = Browser::at(address.into(), number % 4 < 2);
            let mut latencies = Vec::new();
            let mut count = 0_u32;
            while Instant::now() < end {
                count += 1;
                let started = Instant::now();
                let answer = browser.get(&host.url("/session")).await;
                latencies.push(started.elapsed());
                assert_eq!(answer.status, 200, "visitor {number}: {}", answer.text);
                assert!(
                    answer.text.starts_with(&count.to_string()),
                    "visitor {number}, visit {count}: {}",
                    answer.text
                );
                let hello = browser.get(&host.url("/hello")).await;
                assert_eq!(hello.status, 200, "visitor {number}: {}", hello.text);
                let interval = Duration::from_millis(400 + number as u64 * 3);
                pause(interval, "the visitor's pace").await;
            }
            latencies
        })
    });
    let mut all = Vec::new();
    for latencies in join_all(visitors).await {
        all.extend(latencies.unwrap_or_else(|error| panic!("{error}\n{}", tail(host))));
    }
    all
}

fn tail(host: &Host) -> String {
    let log = host.log();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn p99(latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)]
}

fn summary(latencies: &[Duration]) -> String {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let median = sorted[sorted.len() / 2];
    let worst = sorted[sorted.len() - 1];
    format!(
        "{} visits, all answered rightly; median {median:?}, p99 {:?}, worst {worst:?}",
        sorted.len(),
        p99(latencies)
    )
}

/// Returns the host's peak of resident memory during the warm-up and the peak after it, in KiB.
async fn memory(host: Arc<Host>, length: Duration) -> (u64, u64) {
    let started = Instant::now();
    let (mut warm, mut largest) = (0, 0);
    while started.elapsed() < length {
        let now = host.resident_kib();
        if started.elapsed() < WARM_UP {
            warm = now.max(warm);
        } else {
            largest = now.max(largest);
        }
        pause(Duration::from_secs(1), "the interval of the readings").await;
    }
    (warm, largest)
}

/// Starts a server that accepts connections and never answers.
async fn black_hole() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push_back(connection);
            if held.len() > 2_000 {
                held.pop_front();
            }
        }
    });
    address
}

/// The hostile clients. Each reconnects when the host closes its connection.
struct Attack {
    is_over: Arc<AtomicBool>,
    connections: Arc<AtomicU32>,
    clients: JoinSet<()>,
    machines: Machines,
}

/// Low-priority threads for the hostile clients. Real attackers have machines of their own, so these threads must not take processor time
/// from the host and its visitors.
struct Machines(Option<Runtime>);

impl Machines {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(|| {
                // On Linux this applies only to the calling thread.
                rustix::process::nice(19).expect("a thread may lower its priority");
            })
            .build();
        Self(Some(runtime.expect("threads start")))
    }
}

/// Dropping a runtime waits for its threads, which a task must not do.
impl Drop for Machines {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The parameters of one hostile client.
#[derive(Clone)]
struct Attacker {
    host: SocketAddr,
    number: u32,
    is_over: Arc<AtomicBool>,
    connections: Arc<AtomicU32>,
}

impl Attack {
    fn start(host: SocketAddr, black_hole: SocketAddr) -> Self {
        let mut attack = Self {
            is_over: Arc::default(),
            connections: Arc::default(),
            clients: JoinSet::new(),
            machines: Machines::start(),
        };
        attack.add(host, 34, stalled_answers);
        attack.add(host, 3, unread_answers);
        attack.add(host, 3, slow_uploads);
        attack.add(host, 40, half_posts);
        attack.add(host, 4_200, silence);
        attack.add(host, 60, slow_reader);
        attack.add(host, 4, tiny_chunks);
        attack.add(host, 4, broken_uploads);
        attack.add(host, 8, hostile_guest);
        attack.add(host, 18, move |attacker| {
            outbound_calls(attacker, black_hole)
        });
        attack
    }

    fn add<F>(
        &mut self,
        host: SocketAddr,
        count: u32,
        client: impl Fn(Attacker) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        for number in 0..count {
            let attacker = Attacker {
                host,
                number,
                is_over: Arc::clone(&self.is_over),
                connections: Arc::clone(&self.connections),
            };
            let client = client.clone();
            let run = async move {
                while !attacker.is_over.load(Ordering::Relaxed) {
                    attacker.connections.fetch_add(1, Ordering::Relaxed);
                    // A hostile client expects errors.
                    let _ = client(attacker.clone()).await;
                    pause(Duration::from_millis(100), "the attacker's pace").await;
                }
            };
            let machines = self.machines.0.as_ref().expect("until it is dropped");
            self.clients.spawn_on(run, machines.handle());
        }
    }

    async fn stop(mut self) -> u32 {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.shutdown().await;
        self.connections.load(Ordering::Relaxed)
    }
}

impl Attacker {
    /// Half of the hostile clients share the visitors' address; each of the others has its own.
    fn address(&self) -> IpAddr {
        match self.number % 2 {
            0 => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv4Addr::from(0x7f_01_00_00 + self.number).into(),
        }
    }

    async fn h2(&self, window: u32) -> std::io::Result<RawH2> {
        let settings = [(INITIAL_WINDOW_SIZE, window)];
        RawH2::connect(self.host, Some(self.address()), &settings).await
    }

    async fn h1(&self, bytes: &[u8]) -> std::io::Result<tokio::net::TcpStream> {
        let mut stream = connect_from(self.host, Some(self.address())).await?;
        stream.write_all(bytes).await?;
        Ok(stream)
    }
}

/// Sends 128 requests without a window for an answer.
async fn stalled_answers(attacker: Attacker) -> std::io::Result<()> {
    let mut connection = attacker.h2(0).await?;
    for stream in 0..128 {
        connection
            .request(1 + 2 * stream, "GET", "/hello/x", &[], true)
            .await?;
    }
    connection.linger().await;
    Ok(())
}

/// Requests 128 answers of a mebibyte each and reads none of them.
async fn unread_answers(attacker: Attacker) -> std::io::Result<()> {
    let mut connection = attacker.h2(attacker.number).await?;
    for stream in 0..128 {
        connection
            .request(1 + 2 * stream, "GET", "/upload/huge?1", &[], true)
            .await?;
    }
    connection.linger().await;
    Ok(())
}

/// Announces 128 bodies and never sends them.
async fn slow_uploads(attacker: Attacker) -> std::io::Result<()> {
    let mut connection = attacker.h2(65_535).await?;
    for stream in 0..128 {
        let fields = [("content-length", "10")];
        connection
            .request(1 + 2 * stream, "POST", "/upload/echo", &fields, false)
            .await?;
    }
    connection.linger().await;
    Ok(())
}

async fn half_posts(attacker: Attacker) -> std::io::Result<()> {
    let head = b"POST /session HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab";
    let mut stream = attacker.h1(head).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Sends nothing at all, half a head, or half of HTTP/2's preface.
async fn silence(attacker: Attacker) -> std::io::Result<()> {
    let first: &[u8] = match attacker.number % 3 {
        0 => b"",
        1 => b"GET /hello HTTP/1.1\r\nHost:",
        _ => b"PRI * HTTP/2.0\r\n",
    };
    let mut stream = attacker.h1(first).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn slow_reader(attacker: Attacker) -> std::io::Result<()> {
    let head = b"GET /upload/huge?8 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut stream = attacker.h1(head).await?;
    let mut byte = [0];
    while stream.read(&mut byte).await? > 0 {
        pause(Duration::from_secs(1), "the pace of a slow reader").await;
    }
    Ok(())
}

/// Sends a body of a hundred thousand chunks of one byte.
async fn tiny_chunks(attacker: Attacker) -> std::io::Result<()> {
    let head = b"POST /upload/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = attacker.h1(head).await?;
    let piece = b"1\r\nx\r\n".repeat(500);
    for _ in 0..200 {
        stream.write_all(&piece).await?;
        pause(Duration::from_millis(20), "the attacker's pace").await;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    let mut answer = [0; 1024];
    let _ = stream.read(&mut answer).await?;
    Ok(())
}

async fn broken_uploads(attacker: Attacker) -> std::io::Result<()> {
    let head = b"POST /upload/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nxxxx";
    let _stream = attacker.h1(head).await?;
    pause(Duration::from_millis(50), "the upload begins").await;
    Ok(())
}

/// Sends requests that make their guest allocate memory, log, trap and compute.
async fn hostile_guest(attacker: Attacker) -> std::io::Result<()> {
    let paths = [
        "leak-fields?4000",
        "grow",
        "log-flood?20000",
        "stack",
        "many-headers?2000",
        "sleep?4000",
        "trap",
        "spin",
    ];
    let path = paths[attacker.number as usize % paths.len()];
    let head = format!("GET /hostile/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut stream = attacker.h1(head.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    pause(Duration::from_millis(400), "the attacker's pace").await;
    Ok(())
}

/// Makes a guest wait for a server that never answers.
async fn outbound_calls(attacker: Attacker, black_hole: SocketAddr) -> std::io::Result<()> {
    let script = format!("fetch http://{black_hole}/\n").repeat(8);
    let head = format!(
        "POST /outbound HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{script}",
        script.len()
    );
    let mut stream = attacker.h1(head.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Raises the limit for descriptors of this process, which the host inherits: thousands of connections need as many descriptors.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
}
