//! Faults of the disk under an embedded store: a full disk, failing writes and flushes, a torn log without its shared index, a copy during
//! use, and one short round of power cuts (`long::power` runs many).

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::disk::Disk;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::wait_until;
use futures_util::future::join_all;

use super::{number, scripted, until};
use crate::long::power;
use crate::{run_script, script};

fn on(disk: &Disk) -> Config {
    let file = disk.files().join("sessions.sqlite");
    disk.under(scripted(&format!("sqlite:{}", file.display())))
}

fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.set_cookies().is_empty());
}

/// Fault 36: while the disk is full, writers receive a 503 and readers are served. Once there is room again, all requests succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writers_serves_readers_and_recovers_by_itself() {
    let disk = Disk::new();
    let host = on(&disk).start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    disk.fail("write", "ENOSPC");
    for _ in 0..3 {
        is_refused(&run_script(&browser, &host, &["increment n 1"]).await);
        is_refused(&run_script(&Browser::new(), &host, &["set n 1"]).await);
        assert_eq!(script(&browser, &host, &["get n"]).await, ["1"]);
    }
    disk.mend();
    until(&host, "it recovers", async || {
        run_script(&Browser::new(), &host, &["set n 1"])
            .await
            .status
            == 200
    })
    .await;
    assert_eq!(script(&browser, &host, &["increment n 1"]).await, ["2"]);
}

/// Fault 36: after a failed flush the content of the disk is unknown. The host writes nothing more until it is restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_that_failed_nothing_is_written_until_a_restart() {
    for (kind, error) in [("flush", "EIO"), ("write", "EIO"), ("flush", "ENOSPC")] {
        let disk = Disk::new();
        let mut host = on(&disk).start();
        let browser = Browser::new();
        script(&browser, &host, &["set n 1"]).await;
        disk.fail(kind, error);
        is_refused(&run_script(&browser, &host, &["increment n 1"]).await);
        disk.mend();
        let again = run_script(&browser, &host, &["increment n 1"]).await;
        if (kind, error) == ("flush", "EIO") {
            is_refused(&again);
            is_refused(&run_script(&Browser::new(), &host, &["set n 1"]).await);
        }
        let cookie = browser.cookies(&host.url("/")).unwrap();
        host.terminate();
        let host = on(&disk).start();
        let browser = Browser::with_cookie(&host.url("/"), &cookie);
        let n = number(&script(&browser, &host, &["get n"]).await[0]);
        let least = 1 + u64::from(again.status == 200);
        assert!((least..=least + 1).contains(&n), "{kind} {error}: {n}");
        let next = (n + 1).to_string();
        assert_eq!(script(&browser, &host, &["increment n 1"]).await, [next]);
    }
}

/// Fault 36: after a kill, the log ends in half a frame and the shared index is gone. The host starts and has every commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_log_without_its_index_gives_back_every_commit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite");
    let config = scripted(&format!("sqlite:{}", file.display()));
    let mut host = config.start();
    let browsers: Vec<_> = (0..20).map(|_| Browser::new()).collect();
    for (n, browser) in browsers.iter().enumerate() {
        script(browser, &host, &[&format!("set n {n}")]).await;
    }
    let cookies: Vec<_> = browsers
        .iter()
        .map(|browser| browser.cookies(&host.url("/")).unwrap())
        .collect();
    host.kill();
    tear(&folder.path().join("sessions.sqlite-wal"));
    std::fs::remove_file(folder.path().join("sessions.sqlite-shm")).unwrap();
    let host = config.start();
    for (n, cookie) in cookies.iter().enumerate() {
        let browser = Browser::with_cookie(&host.url("/"), cookie);
        assert_eq!(script(&browser, &host, &["get n"]).await, [n.to_string()]);
    }
    assert_eq!(
        script(&Browser::new(), &host, &["increment n 1"]).await,
        ["1"]
    );
}

/// Appends the first half of a frame after the last complete one.
fn tear(log: &Path) {
    let mut bytes = std::fs::read(log).unwrap();
    let page = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let salts = bytes[16..24].to_vec();
    let mut end = 32;
    // Frames of the log's current generation carry its salts.
    while bytes.get(end + 8..end + 16) == Some(salts.as_slice()) {
        end += 24 + page;
    }
    assert!(end > 32 + 24 + page, "the log holds commits");
    let half = bytes[32..32 + 24 + page / 2].to_vec();
    bytes.resize(bytes.len().max(end + half.len()), 0);
    bytes[end..end + half.len()].copy_from_slice(&half);
    std::fs::write(log, bytes).unwrap();
}

/// Fault 39: a copy that SQLite makes while the host serves is consistent. Each session has a state from the time of the copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_copy_under_load_is_whole_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite");
    let copy = folder.path().join("copy.sqlite");
    let host = scripted(&format!("sqlite:{}", file.display())).start();
    let visitors: Vec<_> = (0..16).map(|_| Browser::new()).collect();
    join_all(visitors.iter().map(|v| script(v, &host, &["set n 0"]))).await;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let before = std::sync::Mutex::new(vec![0; visitors.len()]);
    let visits = join_all(visitors.iter().enumerate().map(async |(at, visitor)| {
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            let sum = number(&script(visitor, &host, &["increment n 1"]).await[0]);
            before.lock().unwrap()[at] = sum;
        }
    }));
    let copying = async {
        wait_until("all visitors count", Duration::from_secs(30), async || {
            let counts = before.lock().unwrap();
            ensure!(counts.iter().all(|count| *count > 0), "{counts:?}");
            Ok(())
        })
        .await;
        let least = before.lock().unwrap().clone();
        let (from, to) = (file.clone(), copy.clone());
        let copied = tokio::task::spawn_blocking(move || {
            let source = rusqlite::Connection::open(from).unwrap();
            source.execute("VACUUM INTO ?", [to.display().to_string()])
        });
        copied.await.unwrap().unwrap();
        let most = before.lock().unwrap().clone();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        (least, most)
    };
    let (_, (least, most)) = futures_util::future::join(visits, copying).await;

    let second = scripted(&format!("sqlite:{}", copy.display())).start();
    for (at, visitor) in visitors.iter().enumerate() {
        let cookie = visitor.cookies(&host.url("/")).unwrap();
        let twin = Browser::with_cookie(&second.url("/"), &cookie);
        let n = number(&script(&twin, &second, &["get n"]).await[0]);
        // One more increment may be committed and not yet answered.
        assert!(
            (least[at]..=most[at] + 1).contains(&n),
            "{n} of {} to {}",
            least[at],
            most[at]
        );
    }
}

/// Fault 35, in short form; `long::power` runs the long form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_keeps_every_commit_that_was_answered() {
    power::cut_again_and_again(2).await;
}

/// Fault 37 from outside: a second host on the same file refuses to start, and the first one continues to serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_on_the_same_file_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite");
    let config = scripted(&format!("sqlite:{}", file.display()));
    let host: Host = config.start();
    let text = folder.path().join("second.toml");
    std::fs::write(&text, config.text()).unwrap();
    let second = std::process::Command::new(cloakroom_tests::host::binary())
        .args(["serve", "--config"])
        .arg(&text)
        .env("COOKIE_SECRET", cloakroom_tests::host::SECRET)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(stderr.contains("is in use by another host"), "{stderr}");
    assert_eq!(
        script(&Browser::new(), &host, &["increment n 1"]).await,
        ["1"]
    );
}
