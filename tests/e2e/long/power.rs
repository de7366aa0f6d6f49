//! Fault 35: a power cut while an embedded store is written. Flushed data stays; other data may be there, completely or torn, or not at
//! all. For each cut the tests try many outcomes. Every answered commit must be there, and the store must open without a repair.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::disk::{Disk, Files};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::pause;
use reqwest::Method;

use crate::script;

const VISITORS: usize = 8;
/// The number of outcomes that are tried for one cut.
const WAYS: usize = 12;

/// The increments of one visitor that were sent and that were answered.
#[derive(Default)]
struct Count {
    asked: AtomicU64,
    answered: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_power_cuts_keep_every_commit_that_was_answered() {
    cut_again_and_again(25).await;
}

/// Runs this many power cuts. The disk that one cut leaves is the start of the next round.
pub(crate) async fn cut_again_and_again(cuts: u32) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let disk = Disk::new();
    let file = disk.files().join("sessions.sqlite");
    let config = disk.under(
        Config::over(&format!("sqlite:{}", file.display()))
            .top("[log]\nlevel = \"error\"")
            .guest("/s", "fixture-session"),
    );
    let mut base = Files::new();
    let mut visitors: Vec<(String, u64)> = Vec::new();
    for cut in 0..cuts {
        let mut host = config.start();
        if visitors.is_empty() {
            for _ in 0..VISITORS {
                let browser = Browser::new();
                script(&browser, &host, &["set n 0"]).await;
                visitors.push((browser.cookies(&host.url("/")).unwrap(), 0));
            }
        }
        let counts: Vec<_> = visitors
            .iter()
            .map(|_| Arc::new(Count::default()))
            .collect();
        let tasks: Vec<_> = visitors
            .iter()
            .zip(&counts)
            .map(|((cookie, _), count)| {
                tokio::spawn(visit(host.url("/s"), cookie.clone(), count.clone()))
            })
            .collect();
        let load = Duration::from_millis(chance.u64(200..900));
        pause(load, "the visitors are busy until the power fails").await;
        host.kill();
        for task in tasks {
            task.await.unwrap();
        }
        let bounds: Vec<_> = visitors
            .iter()
            .zip(&counts)
            .map(|((_, held), count)| {
                let [answered, asked] =
                    [&count.answered, &count.asked].map(|n| n.load(Ordering::Relaxed));
                (held + answered, held + asked)
            })
            .collect();
        let mut left = Files::new();
        for way in 0..WAYS {
            left = disk.after_power_cut(&base, &mut chance);
            check(
                &left,
                &visitors,
                &bounds,
                &format!("cut {cut}, way {way}, seed {seed}"),
            );
        }
        disk.replace(&left);
        // A host opens the disk without a repair.
        let host = config.start();
        for (cookie, held) in &mut visitors {
            *held = read(&host, cookie).await;
        }
        drop(host);
        base = disk_files(&disk);
        disk.settle();
        let answered: u64 = bounds.iter().map(|(least, _)| least).sum();
        eprintln!("cut {cut}: {answered} answers since the beginning are there");
    }
}

/// Increments until the host is gone.
async fn visit(url: String, cookie: String, count: Arc<Count>) {
    let browser = Browser::with_cookie(&url, &cookie);
    loop {
        count.asked.fetch_add(1, Ordering::Relaxed);
        match browser.try_send(Method::POST, &url, "increment n 1").await {
            Ok(answer) if answer.status == 200 => {
                count.answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => panic!("{}: {}", answer.status, answer.text),
            Err(_) => return,
        }
    }
}

async fn read(host: &Host, cookie: &str) -> u64 {
    let browser = Browser::with_cookie(&host.url("/"), cookie);
    let text = script(&browser, host, &["get n"]).await.remove(0);
    text.parse().unwrap()
}

/// Opens the files with SQLite and checks that every answered commit is there.
fn check(left: &Files, visitors: &[(String, u64)], bounds: &[(u64, u64)], what: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in left {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let database = rusqlite::Connection::open(folder.path().join("sessions.sqlite")).unwrap();
    let sound: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(sound, "ok", "{what}");
    for ((cookie, _), (least, most)) in visitors.iter().zip(bounds) {
        let (_, id) = cookie.split_once("s%3A").unwrap();
        let (id, _) = id.split_once('.').unwrap();
        let n: i64 = database
            .query_row(
                "SELECT json_extract(CAST(data AS TEXT), '$.n') FROM sessions WHERE session_id = ?",
                [id],
                |row| row.get(0),
            )
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let n = u64::try_from(n).unwrap();
        assert!(
            (*least..=*most).contains(&n),
            "{what}: {n} is not in {least}..={most}"
        );
    }
}

fn disk_files(disk: &Disk) -> Files {
    let entries = std::fs::read_dir(disk.files()).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect()
}
