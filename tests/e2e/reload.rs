//! SIGHUP: the host reloads its configuration and its guests, completely or not at all.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, SECRET, binary, component};
use cloakroom_tests::versions::{answer, hello};
use cloakroom_tests::wait::{pause, wait_until};

const TAKEN_OVER: &str = "the configuration was read again";
const REFUSED: &str = "reload refused: ";
/// Longest wait for a new version or route.
const SWAP_TIME_MAX: Duration = Duration::from_secs(30);

fn base() -> Config {
    Config::over("memory:").guest("/session", "counter")
}

/// Replaces the host's configuration and waits until the host has accepted it.
async fn reload(host: &Host, config: &Config) {
    let before = host.log_count(TAKEN_OVER);
    host.configure(config);
    host.signal("HUP");
    host.wait_for_log_count(TAKEN_OVER, before + 1).await;
}

/// Replaces the host's configuration and waits until the host has refused it. Returns the errors.
async fn refused(host: &Host, config: &Config, faults: usize) -> Vec<String> {
    let before = host.log_count(REFUSED);
    host.configure(config);
    host.signal("HUP");
    host.wait_for_log_count(REFUSED, before + faults).await;
    pause(Duration::from_millis(300), "no further line follows").await;
    let log = host.log();
    let lines = log.lines().filter(|line| line.contains(REFUSED));
    let lines: Vec<_> = lines.skip(before).map(str::to_owned).collect();
    assert_eq!(lines.len(), faults, "one line for each fault: {lines:#?}");
    lines
}

async fn status(host: &Host, path: &str) -> u16 {
    Browser::new().get(&host.url(path)).await.status
}

/// Returns the version that answers this route now.
async fn version_of(host: &Host, path: &str) -> String {
    let line = host.access_line(path).await;
    let (_, rest) = line.split_once("guest_version=").expect(&line);
    rest.split(' ').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_adds_and_removes_guests_and_routes() {
    let host = base().guest("/hello", "fixture-hello").start();
    let visitor = Browser::new();
    assert_eq!(visitor.get(&host.url("/session")).await.text, "1번 접속");
    assert_eq!(status(&host, "/hello").await, 200);
    assert_eq!(status(&host, "/new").await, 404);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.wasm");
    fs::write(&file, hello(1)).unwrap();
    reload(&host, &base().guest_at("/new", "new", &file, "")).await;

    assert_eq!(visitor.get(&host.url("/new")).await.text, answer(1));
    assert_eq!(status(&host, "/hello").await, 404, "its route is gone");
    assert_eq!(visitor.get(&host.url("/session")).await.text, "2번 접속");
    assert_eq!(
        version_of(&host, "/session").await,
        "1",
        "it is the same in both configurations and does not change"
    );

    // The host watches the file of a guest added by a reload like any other.
    fs::write(&file, hello(2)).unwrap();
    wait_until("version 2 serves", SWAP_TIME_MAX, async || {
        let text = visitor.get(&host.url("/new")).await.text;
        ensure!(text == answer(2), "{text}\n{}", host.log());
        Ok(())
    })
    .await;
    // A changed setting creates a new version of the guest.
    let keys = "environment = { A = \"b\" }";
    reload(&host, &base().guest_at("/new", "new", &file, keys)).await;
    assert_eq!(visitor.get(&host.url("/new")).await.text, answer(2));
    assert_eq!(version_of(&host, "/new").await, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_with_a_fault_changes_nothing_and_reports_every_fault() {
    let host = base().start();
    assert_eq!(status(&host, "/session").await, 200);
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.wasm");
    fs::write(&text, "this is no component").unwrap();
    let good = base().guest("/hello", "fixture-hello");

    let bad = good.clone().guest_at("/text", "text", &text, "");
    let lines = refused(&host, &bad, 1).await;
    assert!(
        lines[0].contains("guest.text.component") && lines[0].contains("this is a text"),
        "{lines:#?}"
    );
    let bad = bad.top("lissten = 1\n[log]\nlevel = 7");
    let lines = refused(&host, &bad, 3).await;
    for (line, part) in lines.iter().zip(["lissten", "log.level", "guest.text"]) {
        assert!(line.contains(part), "{lines:#?}");
    }
    let conflict = good.clone().guest("/hello", "fixture-command");
    let lines = refused(&host, &conflict, 2).await;
    assert!(
        lines.concat().contains("command-line program"),
        "{lines:#?}"
    );

    assert_eq!(
        status(&host, "/hello").await,
        404,
        "nothing of it was taken"
    );
    assert_eq!(status(&host, "/session").await, 200);
    assert_eq!(version_of(&host, "/session").await, "1");
    reload(&host, &good).await;
    assert_eq!(status(&host, "/hello").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_changes_fixed_keys_is_refused_and_names_them() {
    let host = base().start();
    let other = base()
        .guest("/hello", "fixture-hello")
        .top("server = { grace = \"7s\" }\nlog = { level = \"debug\" }")
        .session("name = \"other\"")
        .store("expiration = \"7h\"");
    let lines = refused(&host, &other, 1).await;
    assert!(
        lines[0].contains("server.grace, session.name, store.expiration, log.level: ")
            && lines[0].contains("a restart is needed"),
        "{lines:#?}"
    );
    assert_eq!(
        status(&host, "/hello").await,
        404,
        "nothing of it was taken"
    );
    reload(&host, &base()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_rotates_the_cookie_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, SECRET).unwrap();
    let reference = format!("\"file:{}\"", file.display());
    let with = |secrets: &str| base().session(&format!("secrets = [{secrets}]"));
    let host = with(&reference).start();
    let anna = Browser::new();
    assert_eq!(anna.get(&host.url("/session")).await.text, "1번 접속");

    // The reference is the same and the file is new: the first secret signs, and both verify.
    let new = "another secret of the tests, of 32 bytes or more";
    fs::write(&file, new).unwrap();
    reload(&host, &with(&format!("{reference}, \"env:COOKIE_SECRET\""))).await;
    assert_eq!(anna.get(&host.url("/session")).await.text, "2번 접속");
    let bela = Browser::new();
    assert_eq!(bela.get(&host.url("/session")).await.text, "1번 접속");

    reload(&host, &with(&reference)).await;
    assert_eq!(bela.get(&host.url("/session")).await.text, "2번 접속");
    assert_eq!(
        anna.get(&host.url("/session")).await.text,
        "1번 접속",
        "no secret verifies her cookie"
    );
    let log = host.log();
    assert!(!log.contains(new) && !log.contains(SECRET), "{log}");
    assert!(log.contains("secrets=true"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_removed_guest_finish() {
    let without = base().admin("");
    let host = without.clone().guest("/f", "fixture-faults").start();
    let url = host.url("/f/sleep?2500");
    let request = tokio::spawn(async move { Browser::new().get(&url).await });
    Operator::of(&host)
        .wait_for_instances("fixture-faults1", 1)
        .await;
    reload(&host, &without).await;
    assert!(!request.is_finished(), "{}", host.log());
    assert_eq!(status(&host, "/f/sleep?0").await, 404);
    let answer = request.await.unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (200, "slept\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_signal_is_lost_however_fast_they_come() {
    let host = base().start();
    let with = |path: &str| base().guest(path, "fixture-hello");
    for round in 0..10 {
        let (one, other) = (format!("/one{round}"), format!("/other{round}"));
        host.configure(&with(&one));
        host.signal("HUP");
        host.configure(&with(&other));
        host.signal("HUP");
        wait_until("the last route serves", SWAP_TIME_MAX, async || {
            ensure!(status(&host, &other).await == 200, "{}", host.log());
            Ok(())
        })
        .await;
        assert_eq!(status(&host, &one).await, 404, "the last one holds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_alone_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.wasm");
    fs::write(&file, hello(1)).unwrap();
    let mut command = Command::new(binary());
    command
        .arg("serve")
        .arg(Path::new("x.wasm"))
        .args(["--listen", "127.0.0.1:0", "--store", "memory:"])
        .env("CLOAKROOM_SERVER_WATCH", "false")
        .current_dir(directory.path());
    let host = Host::spawn(command, directory);
    let browser = Browser::new();
    assert_eq!(browser.get(&host.url("/")).await.text, answer(1));
    fs::write(&file, hello(2)).unwrap();
    host.signal("HUP");
    host.wait_for_log(TAKEN_OVER).await;
    assert_eq!(browser.get(&host.url("/")).await.text, answer(2));

    fs::copy(component("fixture-command"), &file).unwrap();
    host.signal("HUP");
    host.wait_for_log(REFUSED).await;
    assert_eq!(browser.get(&host.url("/")).await.text, answer(2));
}
