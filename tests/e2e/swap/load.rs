//! A hundred swaps under full load: every answer is a complete 200 of one version, and no request waits long.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use cloakroom_tests::host::Config;
use cloakroom_tests::versions::{answer, hello};
use cloakroom_tests::wait::{pause, wait_until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const SWAPS: usize = 100;
const KEPT_ALIVE: usize = 6;
const FRESH: usize = 2;
const BEFORE: Duration = Duration::from_secs(3);
/// Longest time for one swap on a machine with other load.
const SWAP_MAX: Duration = Duration::from_secs(30);

/// State that the clients share.
struct Load {
    address: SocketAddr,
    /// The newest version in any answer so far.
    seen: AtomicUsize,
    are_swapping: AtomicBool,
    is_over: AtomicBool,
}

/// The durations of the answers before the swaps and during them.
#[derive(Default)]
struct Times {
    before: Vec<Duration>,
    during: Vec<Duration>,
}

impl Load {
    /// Sends requests until `is_over`. Panics at the first answer that is incomplete, not 200, or older than an answer that another client
    /// received before the request was sent.
    async fn client(self: Arc<Self>, is_kept_alive: bool) -> Times {
        let mut times = Times::default();
        let mut link: Option<BufReader<TcpStream>> = None;
        while !self.is_over.load(Ordering::Relaxed) {
            let is_during = self.are_swapping.load(Ordering::Relaxed);
            let newest = self.seen.load(Ordering::SeqCst);
            let start = Instant::now();
            let mut used = match link.take() {
                Some(link) => link,
                None => BufReader::new(TcpStream::connect(self.address).await.unwrap()),
            };
            let text = ask(&mut used, is_kept_alive).await;
            let took = start.elapsed();
            let number = (newest..=SWAPS + 1).find(|number| text == answer(*number));
            let number = number.unwrap_or_else(|| panic!("{text:?} after version {newest}"));
            self.seen.fetch_max(number, Ordering::SeqCst);
            if is_during {
                times.during.push(took);
            } else {
                times.before.push(took);
            }
            if is_kept_alive {
                link = Some(used);
            }
        }
        times
    }

    async fn until_seen(&self, number: usize) {
        let what = format!("version {number} serves");
        wait_until(&what, SWAP_MAX, async || {
            let seen = self.seen.load(Ordering::SeqCst);
            ensure!(seen == number);
            Ok(())
        })
        .await;
    }
}

/// Sends one request over an open connection, without any retry.
async fn ask(link: &mut BufReader<TcpStream>, is_kept_alive: bool) -> String {
    let connection = if is_kept_alive { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
    link.write_all(request.as_bytes()).await.unwrap();
    let (mut line, mut status, mut length) = (String::new(), String::new(), None);
    loop {
        line.clear();
        let read = link.read_line(&mut line).await.unwrap();
        assert!(read > 0, "the connection was cut");
        if status.is_empty() {
            status.clone_from(&line);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
        if line == "\r\n" {
            break;
        }
    }
    assert!(status.starts_with("HTTP/1.1 200 "), "{status}");
    let mut body = vec![0; length.expect("a short answer says its length")];
    link.read_exact(&mut body).await.unwrap();
    if !is_kept_alive {
        let more = link.read_to_end(&mut body).await.unwrap();
        assert_eq!(more, 0, "the end comes after the answer");
    }
    String::from_utf8(body).unwrap()
}

fn p99(times: &mut [Duration]) -> Duration {
    assert!(
        times.len() >= 100,
        "too few answers to compare: {}",
        times.len()
    );
    times.sort();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_swaps_under_load_fail_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.wasm");
    fs::write(&file, hello(1)).unwrap();
    let host = Config::over("memory:")
        .top("log = { level = \"info,cloakroom::access=off\" }")
        .guest_at("/", "x", &file, "")
        .start();
    let load = Arc::new(Load {
        address: host.address(),
        seen: AtomicUsize::new(1),
        are_swapping: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
    });
    let clients = (0..KEPT_ALIVE + FRESH)
        .map(|n| tokio::spawn(Arc::clone(&load).client(n < KEPT_ALIVE)))
        .collect::<Vec<_>>();
    pause(BEFORE, "the load without swaps").await;

    load.are_swapping.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let new = folder.path().join("new");
    for number in 2..=SWAPS + 1 {
        fs::write(&new, hello(number)).unwrap();
        fs::rename(&new, &file).unwrap();
        load.until_seen(number).await;
    }
    let took = start.elapsed();
    load.is_over.store(true, Ordering::Relaxed);

    let mut all = Times::default();
    for client in clients {
        let times = client.await.expect("every answer was whole");
        all.before.extend(times.before);
        all.during.extend(times.during);
    }
    let (answers, before, during) = (
        all.before.len() + all.during.len(),
        p99(&mut all.before),
        p99(&mut all.during),
    );
    eprintln!(
        "{SWAPS} swaps in {took:?}, {answers} answers, none failed; p99 {before:?} before, {during:?} during"
    );
    host.wait_for_log_count("a version is live", SWAPS + 1)
        .await;
    assert_eq!(host.log_count("a version is live"), SWAPS + 1);
    assert!(
        during < before * 4 + Duration::from_millis(100),
        "p99 {before:?} before, {during:?} during"
    );
}
