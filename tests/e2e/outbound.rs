//! Requests of guests to other servers: the addresses a granted name may resolve to, the reuse of connections, and their number.

use std::net::{IpAddr, ToSocketAddrs};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, binary};
use cloakroom_tests::wait::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::script;

const WORLDS: [&str; 2] = ["fixture-session", "fixture-session-service"];
/// Longest wait until a guest has all connections that it can get.
const HOARD_TIME_MAX: Duration = Duration::from_secs(60);

/// A local server that counts its connections and requests.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Starts a server that answers every request and keeps its connections open.
    async fn keeping(address: IpAddr) -> Self {
        Self::start(address, b"HTTP/1.1 204 No Content\r\n\r\n").await
    }

    /// Starts a server that accepts requests and never answers.
    async fn silent() -> Self {
        Self::start(IpAddr::from([127, 0, 0, 1]), b"").await
    }

    async fn start(address: IpAddr, answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
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
                tokio::spawn(answer_all(stream, answer, Arc::clone(&requests)));
            }
        });
        server
    }

    fn seen(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.connections), count(&self.requests))
    }
}

async fn answer_all(mut stream: TcpStream, answer: &'static [u8], requests: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            requests.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Returns a name other than `localhost` that resolves to this machine's own addresses without a name server, and the first address.
fn inner_name() -> (String, IpAddr) {
    let hostname = Command::new("hostname")
        .output()
        .expect("hostname runs")
        .stdout;
    let hostname = String::from_utf8(hostname)
        .expect("a name in ASCII")
        .trim()
        .to_lowercase();
    let candidates = [hostname.as_str(), "ip6-localhost", "localhost.localdomain"];
    let is_inner = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    };
    let found = candidates.iter().find_map(|name| {
        let address = (*name, 0).to_socket_addrs().ok()?.next()?.ip();
        is_inner(&address).then(|| ((*name).to_owned(), address))
    });
    found.expect("the machine's own name is in its /etc/hosts")
}

/// Starts a host with an admin interface whose guest at `/s` has this grant.
fn host(component: &str, granted: &str) -> Host {
    Config::over("memory:")
        .guest_with("/s", component, &format!("outbound_hosts = [{granted}]"))
        .admin("")
        .start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_name_with_a_private_address_needs_a_private_grant() {
    let (name, address) = inner_name();
    for component in WORLDS {
        let server = Server::keeping(address).await;
        let granted = format!("{name}:{}", server.port);
        let fetch = format!("fetch http://{granted}/secret");

        let closed = host(component, &format!("{granted:?}"));
        let lines = script(&Browser::new(), &closed, &[&fetch, &fetch]).await;
        for line in lines {
            assert!(
                line.contains("DestinationIpProhibited"),
                "{component}: {line}"
            );
        }
        assert_eq!(server.seen(), (0, 0), "{component}");
        let remedy = format!(
            "outbound_hosts with {{ host = \"{granted}\", private = true }} would allow it"
        );
        closed.wait_for_log(&remedy).await;
        assert_eq!(
            closed.log_count("a guest was denied"),
            1,
            "logged once for a request"
        );
        let series =
            format!("cloakroom_guest_denials_total{{grant=\"outbound\",guest=\"{component}0\"}}");
        assert_eq!(Operator::of(&closed).metric(&series).await, Some(2.0));

        let open = host(
            component,
            &format!("{{ host = {granted:?}, private = true }}"),
        );
        assert_eq!(
            script(&Browser::new(), &open, &[&fetch]).await,
            ["204"],
            "{component}"
        );
        assert_eq!(open.log_count("a guest was denied"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_and_localhost_are_granted_as_they_are_written() {
    for component in WORLDS {
        let server = Server::keeping(IpAddr::from([127, 0, 0, 1])).await;
        let port = server.port;
        let host = host(
            component,
            &format!("\"127.0.0.1:{port}\", \"localhost:{port}\""),
        );
        let spellings = [
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "2130706433",
            "0x7f.1",
            "127.1",
            "0177.0.0.1",
            "[::ffff:127.0.0.1]",
        ];
        let fetches = spellings.map(|spelling| format!("fetch http://{spelling}:{port}/"));
        let fetches: Vec<_> = fetches.iter().map(String::as_str).collect();
        let lines = script(&Browser::new(), &host, &fetches).await;
        assert_eq!(lines, ["204"; 8], "{component}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_an_ip_address_matches_a_granted_name() {
    let server = Server::keeping(IpAddr::from([127, 0, 0, 1])).await;
    let port = server.port;
    for component in WORLDS {
        let host = host(
            component,
            &format!("\"*.test:{port}\", \"api.test:{port}\", \"127.0.0.2:{port}\""),
        );
        let urls = [
            format!("http://127.0.0.1:{port}/"),
            format!("http://2130706433:{port}/"),
            format!("http://0x7f000001:{port}/"),
            format!("http://127.1:{port}/"),
            format!("http://[::1]:{port}/"),
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            format!("http://0.0.0.0:{port}/"),
            format!("http://api.test:{port}@127.0.0.1:{port}/"),
            format!("http://api.test@127.0.0.1:{port}/"),
            format!("http://user:hunter2@api.test:{port}/"),
        ];
        let fetches = urls.map(|url| format!("fetch {url}"));
        let fetches: Vec<_> = fetches.iter().map(String::as_str).collect();
        let lines = script(&Browser::new(), &host, &fetches).await;
        for (line, fetch) in lines.iter().zip(fetches) {
            assert!(line.contains("Denied"), "{component}: {fetch}: {line}");
        }
        host.access_line("/s").await;
        assert!(!host.log().contains("hunter2"));
    }
    assert_eq!(server.seen(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_with_user_information_is_denied_and_named_so_in_the_log() {
    for component in WORLDS {
        let host = host(component, "\"127.0.0.1:9\"");
        let lines = script(
            &Browser::new(),
            &host,
            &["fetch http://user:hunter2@127.0.0.1:9/"],
        )
        .await;
        assert!(lines[0].contains("Denied"), "{component}: {lines:?}");
        host.wait_for_log("a request to 127.0.0.1:9 with a user name in its URL")
            .await;
        assert!(!host.log().contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_of_one_guest_share_its_connections_and_another_guest_does_not() {
    for component in WORLDS {
        let server = Server::keeping(IpAddr::from([127, 0, 0, 1])).await;
        let granted = format!("outbound_hosts = [\"127.0.0.1:{}\"]", server.port);
        let host = Config::over("memory:")
            .guest_with("/s", component, &granted)
            .guest_with("/other", component, &granted)
            .admin("")
            .start();
        let fetch = format!("fetch http://127.0.0.1:{}/", server.port);
        for _ in 0..10 {
            assert_eq!(
                script(&Browser::new(), &host, &[&fetch]).await,
                ["204"],
                "{component}"
            );
        }
        let (connections, requests) = server.seen();
        assert!(
            connections < 10 && requests == 10,
            "{component}: {connections} connections"
        );
        let answer = Browser::new().post(&host.url("/other"), fetch).await;
        assert_eq!(answer.text, "204\n");
        assert_eq!(server.seen(), (connections + 1, 11), "{component}");
    }
}

/// Starts a host with this limit for descriptors, both soft and hard.
fn start_with_descriptors(max: u32, config: &Config) -> Host {
    config.start_through(
        "sh",
        &["-c", &format!("ulimit -n {max} && exec \"$0\" \"$@\"")],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_hoards_connections_leaves_descriptors_for_visitors_and_the_operator() {
    const CALLS: usize = 350;
    for component in WORLDS {
        let server = Server::silent().await;
        let hoarder = format!(
            "outbound_hosts = [\"127.0.0.1:{}\"]\nlimits = {{ deadline = \"10s\", instances = 400 }}",
            server.port
        );
        let config = Config::over("memory:")
            .guest_with("/s", component, &hoarder)
            .guest_with("/hello", "fixture-hello", "")
            .admin("");
        let host = start_with_descriptors(320, &config);
        host.wait_for_log(
            "the limit of 320 file descriptors is too small: [server] connections is lowered",
        )
        .await;

        // Few connections with many streams each, so that outbound calls use most of the descriptors.
        let client = || {
            reqwest::Client::builder()
                .http2_prior_knowledge()
                .no_proxy()
                .build()
                .unwrap()
        };
        let clients = [client(), client(), client(), client()];
        let fetch = format!("fetch http://127.0.0.1:{}/", server.port);
        let call = |number: usize| clients[number % 4].post(host.url("/s")).body(fetch.clone());
        let calls: Vec<_> = (0..CALLS)
            .map(|number| tokio::spawn(call(number).send()))
            .collect();
        let operator = Operator::of(&host);
        let max = operator
            .metric("cloakroom_outbound_connections_max")
            .await
            .unwrap();
        assert!(max >= 1.0);
        let refused = format!("cloakroom_guest_outbound_refusals_total{{guest=\"{component}0\"}}");
        // The hoarding guest has all connections that it can get, and some of its calls have been refused.
        wait_until("the guest hoards", HOARD_TIME_MAX, async || {
            let open = operator.metric("cloakroom_outbound_connections").await;
            ensure!(open >= Some(max), "{open:?} connections");
            let refusals = operator.metric(&refused).await;
            ensure!(refusals >= Some(1.0), "{refusals:?} refusals");
            Ok(())
        })
        .await;
        for _ in 0..25 {
            let answer = Browser::new().get(&host.url("/hello")).await;
            assert_eq!(answer.status, 200, "{component}");
            assert_eq!(Operator::of(&host).get("/healthz").await.status, 200);
        }
        assert!(operator.metric("cloakroom_outbound_connections").await <= Some(max));
        assert!(
            server.seen().0 as f64 <= max,
            "{component}: {:?}",
            server.seen()
        );

        let mut limited = 0;
        for call in calls {
            let answer = call.await.unwrap().unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            limited += usize::from(status == 200 && text.contains("ConnectionLimitReached"));
        }
        assert!(limited >= CALLS / 2, "{component}: {limited} of {CALLS}");
        assert_eq!(host.log_count("accepting a connection failed"), 0);
        assert_eq!(host.log_count("os error 24"), 0, "{}", host.log());
    }
}

#[test]
fn a_descriptor_limit_too_low_to_serve_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloakroom.toml");
    std::fs::write(
        &file,
        Config::over("memory:").guest("/s", "fixture-hello").text(),
    )
    .unwrap();
    let ended = Command::new("sh")
        .args(["-c", "ulimit -n 150 && exec \"$0\" serve --config \"$1\""])
        .arg(binary())
        .arg(&file)
        .env("COOKIE_SECRET", cloakroom_tests::host::SECRET)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("the limit of 150 file descriptors is too small"),
        "{stderr}"
    );
    assert!(stderr.contains("LimitNOFILE="), "{stderr}");
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_as_far_as_it_is_needed() {
    let config = Config::over("memory:").guest("/s", "fixture-hello");
    let host = config.start_through("sh", &["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    let hard: u64 = line.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(soft == hard || soft > 4096 + 512, "{line}");
}

#[test]
fn check_reports_granted_names_that_resolve_to_private_addresses() {
    let (name, _) = inner_name();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloakroom.toml");
    let granted = format!(
        "outbound_hosts = [\"{name}:81\", \"127.0.0.1:1\", \"localhost\", \"*.{name}.test\", {{ host = \"{name}\", private = true }}]"
    );
    let config = Config::over("memory:").guest_with("/s", "fixture-hello", &granted);
    std::fs::write(&file, config.text()).unwrap();
    let checked = Command::new(binary())
        .args(["check", "--config"])
        .arg(&file)
        .env("COOKIE_SECRET", cloakroom_tests::host::SECRET)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{stderr}");
    let warning = format!("warning: guest.fixture-hello0.outbound_hosts: {name}:81 has a ");
    assert!(stderr.contains(&warning), "{stderr}");
    assert_eq!(stderr.matches("address today").count(), 1, "{stderr}");
}
