//! A log whose pipe is not read: requests are answered, signals work, and a reader that resumes sees how much it missed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, binary};
use cloakroom_tests::port::Port;
use cloakroom_tests::wait::{try_wait_until, wait_until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Longest wait of these tests on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// The number of characters in the route's pattern, which each access line repeats.
const PATTERN_CHARS: usize = 4000;

/// A host whose standard error is a pipe that the test may or may not read. Killed when dropped.
struct Stalled {
    child: Child,
    address: SocketAddr,
    admin: String,
    stderr: Option<ChildStderr>,
    path: String,
    _folder: tempfile::TempDir,
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the process has ended. Kills a process that does not end.
async fn has_ended(child: &mut Child) -> ExitStatus {
    let ended = try_wait_until("the host has ended", WAIT_MAX, async || {
        child.try_wait().unwrap().context("it goes on")
    });
    let ended = ended.await;
    ended.unwrap_or_else(|error| {
        let _ = child.kill();
        panic!("{error}");
    })
}

fn serve(folder: &Path, config: &Config) -> Command {
    let file = folder.join("cloakroom.toml");
    std::fs::write(&file, config.text()).unwrap();
    let mut command = Command::new(binary());
    command
        .args(["serve", "--config"])
        .arg(&file)
        .current_dir(folder);
    command.env("COOKIE_SECRET", cloakroom_tests::host::SECRET);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Stalled {
    fn start(log: &str, grace: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("/{}", "p".repeat(PATTERN_CHARS));
        let keys = "limits = { deadline = \"300s\" }";
        let config = Config::over("memory:")
            .top(&format!("server = {{ grace = {grace:?} }}"))
            .top(log)
            .guest_with(&path, "fixture-faults", keys)
            .admin("");
        let mut child = serve(folder.path(), &config).spawn().unwrap();
        let stderr = child.stderr.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || stdout.next().expect("it greets").unwrap();
        let address = loop {
            if let Some((_, rest)) = line().split_once("serves http://") {
                break rest.split('/').next().unwrap().parse().unwrap();
            }
        };
        let admin = loop {
            if let Some(url) = line().strip_prefix("The admin interface is ") {
                break url.trim_end_matches('.').to_owned();
            }
        };
        Self {
            child,
            address,
            admin,
            stderr,
            path,
            _folder: folder,
        }
    }

    /// Sends requests until the log lines exceed the capacity of any pipe and queue.
    async fn flood(&self) {
        let browser = Browser::new();
        let url = format!("http://{}{}/hello", self.address, self.path);
        for round in 0..600 {
            assert_eq!(browser.get(&url).await.status, 200, "request {round}");
        }
    }

    fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn ended(&mut self) -> ExitStatus {
        has_ended(&mut self.child).await
    }

    /// Returns the number of dropped lines of this kind according to the metrics.
    async fn dropped(&self, kind: &str) -> u64 {
        let metrics = Browser::new().get(&format!("{}/metrics", self.admin)).await;
        let name = format!("cloakroom_log_lines_dropped_total{{kind=\"{kind}\"}} ");
        let line = metrics
            .text
            .lines()
            .find_map(|line| line.strip_prefix(&name));
        line.expect("the metric is there").parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_log_is_unread_answers_requests_and_ends_on_sigterm() {
    let mut host = Stalled::start("", "2s");
    host.flood().await;
    assert!(host.dropped("access").await > 0);
    assert_eq!(host.dropped("error").await, 0, "errors are dropped last");
    host.signal();
    assert_eq!(host.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_host_whose_log_is_unread_at_once() {
    let mut host = Stalled::start("", "300s");
    host.flood().await;
    let mut link = TcpStream::connect(host.address).await.unwrap();
    let request = format!("GET {}/sleep?290000 HTTP/1.1\r\nhost: x\r\n\r\n", host.path);
    link.write_all(request.as_bytes()).await.unwrap();
    host.signal();
    wait_until("the host is closed", WAIT_MAX, async || {
        ensure!(TcpStream::connect(host.address).await.is_err());
        Ok(())
    })
    .await;
    host.signal();
    assert_eq!(host.ended().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_back_learns_how_many_lines_it_missed() {
    for (log, counted) in [
        ("", "access="),
        ("log = { format = \"json\" }", "\"access\":"),
    ] {
        let mut host = Stalled::start(log, "2s");
        host.flood().await;
        let dropped = host.dropped("access").await;
        assert!(dropped > 0);
        let mut stderr = host.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        // After the gap, lines are logged normally.
        let browser = Browser::new();
        let url = format!("http://{}{}/after", host.address, host.path);
        assert_eq!(browser.get(&url).await.status, 200);
        host.signal();
        assert_eq!(host.ended().await.code(), Some(0));
        let text = reader.join().unwrap();
        let reported: Vec<_> = text
            .lines()
            .filter(|line| line.contains("log lines were dropped"))
            .collect();
        assert!(
            !reported.is_empty(),
            "{} bytes and no such line",
            text.len()
        );
        let count = |line: &&str| -> u64 {
            let (_, rest) = line.split_once(counted).expect("the line counts by kind");
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        };
        let reported: u64 = reported.iter().map(count).sum();
        assert!(reported >= dropped, "told {reported} of {dropped}");
        assert!(
            text.contains("stopped"),
            "the last lines are there: it was read"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_startup_message_is_unread_serves_and_ends() {
    // The pipe is full before the host writes anything.
    let folder = tempfile::tempdir().unwrap();
    let own = Port::free();
    let port = SocketAddr::from(([127, 0, 0, 1], own.number()));
    let config = Config::over("memory:").guest("/", "fixture-hello");
    let mut command = serve(folder.path(), &config);
    command.args(["--listen", &port.to_string()]);
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut full = 0;
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {
        full += 1;
    }
    assert!(full > 0);
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let stderr = writer.try_clone().unwrap();
    let mut child = command.stdout(writer).stderr(stderr).spawn().unwrap();
    let url = format!("http://{port}/");
    wait_until("the host listens", WAIT_MAX, async || {
        Ok(TcpStream::connect(port).await?)
    })
    .await;
    let answer = Browser::new().get(&url).await;
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let status = has_ended(&mut child).await;
    assert_eq!((answer.status, status.code()), (200, Some(0)));
    drop(reader);
}
