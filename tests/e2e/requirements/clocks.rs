//! Requirement 9 and fault 32: the host's clock jumps a day ahead and back, or differs from the database's clock. The test moves the clock
//! of libfaketime under the running host. Time limits use a different clock, as on a real machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use cloakroom_base::clock::Clock;
use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::{pause, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{run_script, script, sqlite_rows};

/// The clock of a host, with an offset from the machine's clock.
struct MovedClock {
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl MovedClock {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Self {
            file: directory.path().join("clock"),
            _directory: directory,
        };
        clock.move_to("+0");
        clock
    }

    /// Sets the offset: `+1d`, `-90m`, `+0`.
    fn move_to(&self, offset: &str) {
        // Renames the file into place, so that a reader never sees half of it.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    fn of(&self, config: Config) -> Config {
        config
            .env("LD_PRELOAD", &library().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.file.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let found = folders
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .chain([Path::new("/usr/lib/faketime/libfaketimeMT.so.1").to_owned()])
        .find(|path| path.is_file());
    found.expect("libfaketime is missing: run tests/setup.sh")
}

/// The offsets of the clock, and whether a session with an hour to live may end by the jump: only a jump ahead by more than an hour may end
/// it.
const JUMPS: [(&str, bool); 11] = [
    ("+40m", false),
    ("+0", false),
    ("-40m", false),
    ("-1d", false),
    ("-1450m", false),
    ("-40m", true),
    ("+0", false),
    ("-1d", false),
    ("+0", true),
    ("+40m", false),
    ("+0", false),
];

/// Uses sessions with an hour to live between all jumps. Checks that none ends early and that none outlives its hour at the end.
async fn survives_jumps(config: Config, clock: &MovedClock, expiries: impl AsyncFn() -> Vec<i64>) {
    let host = clock.of(config).start();
    let ask = async |cookie: &str, line: &str| {
        // A new jar for each request, because a jar would drop the cookie by its own clock.
        let visitor = Browser::with_cookie(&host.url("/"), cookie);
        let answer = run_script(&visitor, &host, &[line]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    };
    let pair = |answer: &Answer| {
        answer.set_cookies()[0]
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    };
    let mut cookie = pair(&ask("none=0", "set n 0").await);
    let mut expected = 0;
    for (offset, may_end) in JUMPS {
        clock.move_to(offset);
        expected += 1;
        let answer = ask(&cookie, "increment n 1").await;
        if may_end && answer.text == "1\n" {
            cookie = pair(&answer);
            expected = 1;
        }
        assert_eq!(answer.text, format!("{expected}\n"), "at {offset}");
    }
    let own_end = expiries().await.into_iter().max().unwrap();
    let late = own_end - (now_s() + 3_600);
    assert!(late <= 5, "{late} s too late");
    clock.move_to("+2h");
    assert_eq!(ask(&cookie, "get n").await.text, "none\n", "it is over");
}

fn now_s() -> i64 {
    Clock::system().now_s()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_a_clock_that_jumps_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sessions.sqlite");
    let config = Config::over(&format!("sqlite:{}", file.display()))
        .session("cookie = { max_age = \"1h\" }")
        .guest("/s", "fixture-session");
    let clock = MovedClock::new();
    let expiries = async || sqlite_rows(&file).into_iter().map(|row| row.1).collect();
    survives_jumps(config, &clock, expiries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_a_clock_that_jumps_on_mysql() {
    let database = Mariadb::shared().await.fresh_database().await;
    let config = Config::over(&database.url)
        .session("cookie = { max_age = \"1h\" }")
        .guest("/s", "fixture-session");
    let clock = MovedClock::new();
    let expiries = async || {
        let rows = database.sessions().await;
        rows.iter().map(|row| row.expires.into()).collect()
    };
    survives_jumps(config, &clock, expiries).await;
}

/// A host a day ahead of the database, or behind it: only the host's clock counts, for reads, commits and the reaper.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_clock_that_is_a_day_off_changes_nothing() {
    for offset in ["+1d", "-1d"] {
        let database = Mariadb::shared().await.fresh_database().await;
        let clock = MovedClock::new();
        clock.move_to(offset);
        let config = Config::over(&database.url)
            .session("cookie = { max_age = \"1h\" }")
            .store("check_expiration_interval = \"100ms\"")
            .guest("/s", "fixture-session");
        let host = clock.of(config).start();
        let begun = run_script(&Browser::new(), &host, &["set n 1"]).await;
        let cookie = begun.set_cookies()[0].split(';').next().unwrap();
        // A new jar for each request, because a jar would drop the cookie by its own clock.
        let ask = async |line: &str| {
            let visitor = Browser::with_cookie(&host.url("/"), cookie);
            script(&visitor, &host, &[line]).await.remove(0)
        };
        pause(Duration::from_secs(1), "the reaper runs several times").await;
        assert_eq!(ask("increment n 1").await, "2", "{offset}");
        assert_eq!(database.sessions().await.len(), 1, "{offset}");
        // The host's own clock ends the session, in a read and in the reaper.
        clock.move_to(if offset == "+1d" { "+26h" } else { "-22h" });
        assert_eq!(ask("get n").await, "none", "{offset}");
        is_reaped(&host, async || database.sessions().await.is_empty()).await;
    }
}

async fn is_reaped(host: &Host, is_empty: impl AsyncFn() -> bool) {
    wait_until("no row is left", Duration::from_secs(30), async || {
        ensure!(is_empty().await, "{}", host.log());
        Ok(())
    })
    .await;
}

/// `Date` and the cookie's `Expires` follow the clock within seconds, ahead and back, also on a kept connection. Browsers compute the
/// lifetime from both. The answer to an unreadable head has no date, because the date could be wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_follow_a_clock_that_jumped_ahead_and_back() {
    let config = Config::over("memory:")
        .session("cookie = { max_age = \"1h\" }")
        .guest("/s", "fixture-session");
    let clock = MovedClock::new();
    let host = clock.of(config).start();
    let kept = Browser::new();
    for (offset, offset_s) in [
        ("+0", 0),
        ("+1d", 86_400),
        ("+0", 0),
        ("-1d", -86_400),
        ("+40m", 2_400),
        ("+0", 0),
    ] {
        clock.move_to(offset);
        let is_near =
            |text: &str, expected_s: i64| (-2..=2).any(|off| text == http_date(expected_s + off));
        for _ in 0..3 {
            let expected_s = now_s() + offset_s;
            let answer = run_script(&kept, &host, &["get n"]).await;
            let date = answer.header("date").unwrap();
            assert!(is_near(date, expected_s), "{date} at {offset}");
            let answer = run_script(&Browser::new(), &host, &["set n 1"]).await;
            let date = answer.header("date").unwrap();
            assert!(is_near(date, expected_s), "{date} at {offset}");
            let cookie = answer.set_cookies()[0];
            let (_, expires) = cookie.split_once("Expires=").unwrap();
            let expires = expires.split(';').next().unwrap();
            assert!(is_near(expires, expected_s + 3_600), "{cookie} at {offset}");
        }
        let mut stream = tokio::net::TcpStream::connect(host.address())
            .await
            .unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\n: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(!answer.to_lowercase().contains("date:"), "{answer}");
    }
}

/// Returns a time (seconds since the epoch) in the format of HTTP.
fn http_date(at_s: i64) -> String {
    let since_epoch = Duration::from_secs(u64::try_from(at_s).unwrap());
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since_epoch)
}
