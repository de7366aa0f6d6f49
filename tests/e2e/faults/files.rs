//! Faults of an embedded store's files: removed or replaced while the host runs, with a second name, or with another database's log. None
//! of them loses an answered commit silently.

use std::path::{Path, PathBuf};

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};

use super::{scripted, until};
use crate::{run_script, script};

fn over(file: &Path) -> Config {
    scripted(&format!("sqlite:{}", file.display()))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Fault 36: a file that was removed or replaced while the host runs is not written any more, and the host reports that a restart is
/// needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_removed_or_replaced_refuses_writers_until_a_restart() {
    for (fate, is_replaced) in [("removed", false), ("replaced by another file", true)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sessions.sqlite");
        let config = over(&file).admin("");
        let mut host = config.start();
        let operator = Operator::of(&host);
        let browser = Browser::new();
        script(&browser, &host, &["set n 1"]).await;
        assert_eq!(operator.get("/readyz").await.status, 200);
        let moved = beside(&file, ".moved");
        std::fs::rename(&file, &moved).unwrap();
        if is_replaced {
            std::fs::copy(&moved, &file).unwrap();
        }

        for _ in 0..20 {
            let writer = run_script(&browser, &host, &["increment n 1"]).await;
            assert_eq!(writer.status, 503, "{}", writer.text);
            assert!(writer.header("retry-after").is_some());
            assert_eq!(script(&browser, &host, &["get n"]).await, ["1"]);
        }
        let ready = operator.get("/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready.text.contains("restart the host"), "{}", ready.text);
        assert!(!ready.text.contains("sessions.sqlite"), "{}", ready.text);
        assert_eq!(operator.metric("cloakroom_store_halted").await, Some(1.0));
        assert_eq!(operator.metric("cloakroom_ready").await, Some(0.0));
        let named = format!("sessions.sqlite was {fate} while the host had it open");
        host.wait_for_log(&named).await;
        let count = host.log_count("the session database is no longer written");
        assert_eq!(count, 1, "{}", host.log());

        // The remedy: put the right file back at its path. Its log still exists.
        let cookie = browser.cookies(&host.url("/")).unwrap();
        host.terminate();
        std::fs::rename(&moved, &file).unwrap();
        let host = config.start();
        let browser = Browser::with_cookie(&host.url("/"), &cookie);
        assert_eq!(script(&browser, &host, &["increment n 1"]).await, ["2"]);
        assert_eq!(Operator::of(&host).get("/readyz").await.status, 200);
    }
}

/// The same without a visitor: the host checks its file periodically.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_removed_makes_an_idle_host_unready() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite");
    let host = over(&file).admin("").start();
    let operator = Operator::of(&host);
    std::fs::remove_file(&file).unwrap();
    until(&host, "it is not ready", async || {
        operator.get("/readyz").await.status == 503
    })
    .await;
}

/// Fault 37: a second name of the file is still the same file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_on_a_hard_link_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite");
    let link = folder.path().join("link.sqlite");
    let host: Host = over(&file).start();
    std::fs::hard_link(&file, &link).unwrap();
    let (code, text) = over(&link).refused().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is in use by another host"), "{text}");
    let browser = Browser::new();
    assert_eq!(script(&browser, &host, &["increment n 1"]).await, ["1"]);
}

/// Fault 36: a log written for another database is refused before any of it is copied to this database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_another_database_does_not_start_and_its_own_does() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["mine.sqlite", "other.sqlite"].map(|name| folder.path().join(name));
    let mut cookies = Vec::new();
    for file in &files {
        let mut host = over(file).start();
        let browser = Browser::new();
        script(&browser, &host, &["set n 1"]).await;
        cookies.push(browser.cookies(&host.url("/")).unwrap());
        host.kill();
    }
    let (log, own) = (beside(&files[0], "-wal"), folder.path().join("own"));
    std::fs::rename(&log, &own).unwrap();
    std::fs::copy(beside(&files[1], "-wal"), &log).unwrap();

    let (code, text) = over(&files[0]).refused().await;

    assert_eq!(code, Some(1), "{text}");
    let named = "mine.sqlite-wal was not written for the session database";
    assert!(
        text.contains(named) && text.contains("remove the log"),
        "{text}"
    );
    std::fs::rename(&own, &log).unwrap();
    let host = over(&files[0]).start();
    let browser = Browser::with_cookie(&host.url("/"), &cookies[0]);
    assert_eq!(script(&browser, &host, &["increment n 1"]).await, ["2"]);
}
