//! Places that secrets must not reach: another purpose, the disk, and a server that asks for a file.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::{Config, SECRET};
use cloakroom_tests::mariadb::Mariadb;
use reqwest::Method;
use serde_json::json;

use super::ask;
use crate::{id_of, run_script, script};

/// Requirement 28: a signature made for one purpose is invalid for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_made_for_one_purpose_is_invalid_for_another() {
    let host = Config::over("sqlite:sessions.sqlite")
        .top("[cookies]\nsecrets = [\"env:APP\"]")
        .env("APP", "a secret of the application's cookies")
        .guest("/s", "fixture-session")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1", "save"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let fingerprint = script(&browser, &host, &["fingerprint"]).await.remove(0);
    let id = id_of(&browser, &host);
    let kept = host.directory.path().join("sessions.sqlite.secret");
    assert!(!kept.exists(), "secrets were given");

    // The application's signature of the session's id and of the session's fingerprint.
    let mut forged = Vec::new();
    for text in [&id, &fingerprint] {
        let line = format!(
            "set-cookie {}",
            json!({ "name": "c", "text": text, "signed": true })
        );
        let answer = run_script(&Browser::new(), &host, &[&line]).await;
        let set = answer.set_cookies()[0].to_owned();
        let (_, value) = set.split(';').next().unwrap().split_once('=').unwrap();
        forged.push(format!("connect.sid={value}"));
    }
    let (_, signed) = cookie.split_once('=').unwrap();
    let (_, signature) = signed.split_once('.').unwrap();
    forged.push(format!("connect.sid=s%3A{fingerprint}.{signature}"));
    forged.push(format!("connect.sid=s%3A{id}.{fingerprint}"));
    for cookie in &forged {
        let headers = [("cookie", cookie.as_str())];
        let answer = ask(&host, Method::POST, "/s", &headers, "get n").await;
        assert_eq!(answer.text, "none\n", "{cookie}");
    }
    // The session's cookie with the name of the application's cookie.
    let copied = format!("c={signed}");
    let headers = [("cookie", copied.as_str())];
    let answer = ask(&host, Method::POST, "/s", &headers, "cookies").await;
    assert_eq!(answer.text, "[{\"name\":\"c\",\"signed\":true}]\n");
    assert_eq!(script(&browser, &host, &["get n"]).await, ["1"]);
}

/// Requirement 31: a host killed by a signal that dumps core leaves no core file. Its hard limit still lets an operator enable one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_crashes_leaves_no_core_dump() {
    let mut host = Config::over("memory:")
        .guest("/s", "fixture-session")
        .start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .expect("Linux tells it");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    host.signal("QUIT");
    let status = host.ended(Duration::from_secs(60)).await;
    assert!(!status.success());
    let left = std::fs::read_dir(host.directory.path()).unwrap();
    let cores: Vec<_> = left
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("core"))
        .collect();
    assert!(cores.is_empty(), "{cores:?}");
}

/// Requirement 31: no copy of a secret remains where the environment and the configuration were read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_host_holds_a_secret_in_few_places() {
    const MARKER: &str = "a secret that is looked for in memory, 47 bytes";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, MARKER).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let host = Config::over("memory:")
        .session(&format!("secrets = [\"file:{}\"]", file.display()))
        .guest("/s", "fixture-session")
        .start();
    let browser = Browser::new();
    for _ in 0..20 {
        script(&browser, &host, &["increment n 1", "fingerprint"]).await;
    }
    let copies = count_in_memory(host.id(), MARKER);
    assert!((1..=3).contains(&copies), "{copies} copies of the secret");
    // The search works: the secret of the tests is in the environment and is found.
    assert!(count_in_memory(host.id(), SECRET) > 0);
}

/// Counts the occurrences of `needle` in a process's writable memory, using `grep` because it is fast.
fn count_in_memory(process: u32, needle: &str) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut dump = tempfile::NamedTempFile::new().unwrap();
    let mut range = None;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        match (first, words.next()) {
            // A mapping without a page in memory has no content.
            ("Rss:", Some(kib)) if kib != "0" => {
                if let Some((from, to)) = range.take() {
                    let mut bytes = vec![0; to - from];
                    // The mapping may be gone meanwhile, and some mappings cannot be read.
                    if memory.read_exact_at(&mut bytes, from as u64).is_ok() {
                        dump.write_all(&bytes).unwrap();
                    }
                }
            }
            (_, Some(rights)) if rights.starts_with("rw") => range = bounds(first),
            _ => {}
        }
    }
    let found = Command::new("grep")
        .args(["-aoF", needle])
        .arg(dump.path())
        .output()
        .unwrap();
    found.stdout.iter().filter(|byte| **byte == b'\n').count()
}

/// Parses the `from-to` of a mapping. Returns `None` for the reserved ranges of the pools, whose linear memories contain no secret.
fn bounds(text: &str) -> Option<(usize, usize)> {
    let (from, to) = text.split_once('-')?;
    let [from, to] = [from, to].map(|text| usize::from_str_radix(text, 16));
    let (from, to) = (from.ok()?, to.ok()?);
    (to - from <= 256 << 20).then_some((from, to))
}

/// Requirement 55: a server that answers a statement with a request for a file receives no file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_server_that_requests_a_local_file_gets_none() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = Config::over(&database.url_through(proxy.port()))
        .session("name = \"sid\"")
        .guest("/s", "fixture-session")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    for (prefix, lines) in [
        ("SELECT", &["get n"][..]),
        ("UPDATE", &["set n 2"]),
        ("DELETE", &["destroy"]),
        ("INSERT", &["set n 3"]),
    ] {
        proxy.disturb(Disturbance {
            loss: Loss::AsksForFile("/etc/passwd"),
            prefix: prefix.into(),
            every: 1,
            times: 1,
        });
        let before = proxy.losses();
        let visitor = match prefix {
            "INSERT" => Browser::new(),
            _ => browser.clone(),
        };
        let answer = run_script(&visitor, &host, lines).await;
        assert!(
            [200, 503].contains(&answer.status),
            "{prefix}: {} {}",
            answer.status,
            answer.text
        );
        assert_eq!(
            proxy.losses(),
            before + 1,
            "{prefix}: the request for the file was sent"
        );
        assert_eq!(proxy.files_received(), Vec::<u8>::new(), "{prefix}");
        proxy.calm();
    }
    assert!(!host.log().contains("root:"), "{}", host.log());
}
