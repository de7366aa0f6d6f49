//! The file of a component changes while the host runs: a complete new version serves, and an incomplete or invalid file never does.

mod load;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, component};
use cloakroom_tests::versions::{answer, counter, hello};
use cloakroom_tests::wait::{pause, wait_until};

/// The log text for a file that is refused.
const REFUSED: &str = "a new version was rejected";
/// Longest wait for a version on a busy machine.
const SWAP_TIME_MAX: Duration = Duration::from_secs(30);
/// Enough time for a host to notice a change, on a busy machine.
const NOTICED: Duration = Duration::from_millis(1500);
/// Twice the time for which a host waits for a file that is not closed.
const QUIET_TWICE: Duration = Duration::from_secs(5);

/// A host over one file in a folder, and a visitor.
struct Fixture {
    host: Host,
    browser: Browser,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with("x.wasm", "", |_| {})
    }

    /// Starts a host over the file `name`, which contains version 1 unless `prepare` creates it.
    fn with(name: &str, keys: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let file = folder.path().join(name);
        if !file.exists() {
            fs::write(&file, hello(1)).unwrap();
        }
        let host = Config::over("memory:")
            .guest_at("/", "x", &file, keys)
            .start();
        Self {
            host,
            browser: Browser::new(),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn response_text(&self) -> String {
        let answer = self.browser.get(&self.host.url("/")).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text, self.host.log());
        answer.text
    }

    /// Waits for the first answer of this version and checks that every answer before it is of an old version. Returns the time it took.
    async fn becomes(&self, number: usize) -> Duration {
        until(&self.host, &self.browser, "/", &answer(number)).await
    }

    /// Waits and checks that the same version still serves, with the same version number.
    async fn stays(&self, number: usize, guest_version: usize) {
        pause(NOTICED, "no other version comes").await;
        assert_eq!(
            self.response_text().await,
            answer(number),
            "{}",
            self.host.log()
        );
        let line = self.host.access_line("/").await;
        let version = format!("guest_version={guest_version} ");
        assert!(line.contains(&version), "{line}");
    }
}

/// Repeats the request until the answer is `wanted`. Returns the time it took.
async fn until(host: &Host, browser: &Browser, path: &str, wanted: &str) -> Duration {
    let start = Instant::now();
    let what = format!("{path} answers {wanted:?}");
    wait_until(&what, SWAP_TIME_MAX, async || {
        let answer = browser.get(&host.url(path)).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
        let text = answer.text;
        ensure!(text == wanted, "still {text:?}:\n{}", host.log());
        Ok(())
    })
    .await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_in_place_serves() {
    let fixture = Fixture::new();
    for number in 2..5 {
        fs::write(fixture.path("x.wasm"), hello(number)).unwrap();
        fixture.becomes(number).await;
        fixture.stays(number, number).await;
    }
    assert_eq!(fixture.host.log_count(REFUSED), 0, "{}", fixture.host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_serves_however_its_editor_does_it() {
    let fixture = Fixture::new();
    let (file, other) = (fixture.path("x.wasm"), fixture.path("x.wasm.new"));

    // Another file is renamed to its name.
    fs::write(&other, hello(2)).unwrap();
    fs::rename(&other, &file).unwrap();
    fixture.becomes(2).await;

    // The old file is renamed first.
    fs::rename(&file, fixture.path("x.wasm~")).unwrap();
    fs::write(&file, hello(3)).unwrap();
    fixture.becomes(3).await;

    // The file is removed and created again.
    fs::remove_file(&file).unwrap();
    fs::write(&file, hello(4)).unwrap();
    fixture.becomes(4).await;

    // A link replaces the file.
    fs::write(&other, hello(5)).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&other, &file).unwrap();
    fixture.becomes(5).await;
    fixture.stays(5, 5).await;
    assert_eq!(fixture.host.log_count(REFUSED), 0, "{}", fixture.host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_writer_is_waited_for() {
    let fixture = Fixture::new();
    let bytes = hello(2);
    let mut file = File::create(fixture.path("x.wasm")).unwrap();
    for chunk in bytes.chunks(bytes.len() / 10) {
        file.write_all(chunk).unwrap();
        pause(Duration::from_millis(120), "the pace of a slow writer").await;
        assert_eq!(fixture.response_text().await, answer(1), "it is not whole");
    }
    drop(file);
    fixture.becomes(2).await;

    // A writer that closes the file after each piece, as a shell with `>>` does.
    let bytes = hello(3);
    for (n, chunk) in bytes.chunks(bytes.len() / 10 + 1).enumerate() {
        let mut options = OpenOptions::new();
        let options = options.write(true).append(n > 0).truncate(n == 0);
        let mut file = options.open(fixture.path("x.wasm")).unwrap();
        file.write_all(chunk).unwrap();
        drop(file);
        pause(Duration::from_millis(120), "the pace of a slow writer").await;
        if n < 9 {
            assert_eq!(fixture.response_text().await, answer(2), "it is not whole");
        }
    }
    fixture.becomes(3).await;
    fixture.stays(3, 3).await;
    assert_eq!(fixture.host.log_count(REFUSED), 0, "{}", fixture.host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_its_writer_never_closes_is_served_after_the_quiet_time() {
    let fixture = Fixture::new();
    // At its start a host checks its files once, even if they are still open for writing.
    fixture.stays(1, 1).await;
    let mut file = File::create(fixture.path("x.wasm")).unwrap();
    file.write_all(&hello(2)).unwrap();
    fixture.stays(1, 1).await;
    fixture.becomes(2).await;
    drop(file);
    fixture.stays(2, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_pointed_elsewhere_are_followed() {
    let version = |folder: &Path, number: usize| {
        let name = format!("..{number}");
        fs::create_dir(folder.join(&name)).unwrap();
        fs::write(folder.join(&name).join("x.wasm"), hello(number)).unwrap();
        symlink(&name, folder.join("..data_new")).unwrap();
        fs::rename(folder.join("..data_new"), folder.join("..data")).unwrap();
    };
    // The layout in which Kubernetes mounts a ConfigMap.
    let fixture = Fixture::with("x.wasm", "", |folder| {
        version(folder, 1);
        symlink("..data/x.wasm", folder.join("x.wasm")).unwrap();
    });
    for number in 2..5 {
        version(fixture.folder.path(), number);
        fs::remove_dir_all(fixture.path(&format!("..{}", number - 1))).unwrap();
        fixture.becomes(number).await;
    }
    // The target of the links is watched, too.
    fs::write(fixture.path("..4/x.wasm"), hello(5)).unwrap();
    fixture.becomes(5).await;
    fixture.stays(5, 5).await;
    assert_eq!(fixture.host.log_count(REFUSED), 0, "{}", fixture.host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_file_is_logged_once_and_served_when_it_is_back() {
    let fixture = Fixture::with("d/x.wasm", "", |folder| {
        fs::create_dir(folder.join("d")).unwrap();
    });
    fs::remove_file(fixture.path("d/x.wasm")).unwrap();
    fixture
        .host
        .wait_for_log("the component's file is gone")
        .await;
    pause(QUIET_TWICE, "nothing else is told").await;
    assert_eq!(
        fixture.response_text().await,
        answer(1),
        "the live version still serves"
    );
    assert_eq!(fixture.host.log_count("file is gone"), 1);
    fs::write(fixture.path("d/x.wasm"), hello(2)).unwrap();
    fixture.becomes(2).await;

    // The same with its directory, which is replaced by another one.
    for number in 3..5 {
        fs::remove_dir_all(fixture.path("d")).unwrap();
        pause(Duration::from_millis(200), "the folder is gone").await;
        fs::create_dir(fixture.path("d")).unwrap();
        fs::write(fixture.path("d/x.wasm"), hello(number)).unwrap();
        fixture.becomes(number).await;
    }
    assert_eq!(fixture.host.log_count(REFUSED), 0, "{}", fixture.host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_is_refused_once_and_a_good_one_taken_after_it() {
    let fixture = Fixture::new();
    let file = fixture.path("x.wasm");
    fs::write(&file, "this is no component").unwrap();
    fixture.host.wait_for_log("this is a text").await;
    fs::write(&file, "this is no component").unwrap();
    fixture.stays(1, 1).await;
    assert_eq!(fixture.host.log_count(REFUSED), 1, "{}", fixture.host.log());

    // A truncated component may still be in the middle of being written, so it is refused only after a quiet period.
    let whole = hello(2);
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    fixture.host.wait_for_log("damaged or incomplete").await;
    pause(QUIET_TWICE, "the file is refused only once").await;
    fixture.stays(1, 1).await;
    assert_eq!(fixture.host.log_count(REFUSED), 2, "{}", fixture.host.log());

    fs::write(&file, &whole).unwrap();
    fixture.becomes(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_counts_only_when_its_content_has_changed() {
    let fixture = Fixture::new();
    let file = fixture.path("x.wasm");
    fs::write(&file, hello(1)).unwrap();
    fixture.stays(1, 1).await;
    let touched = File::options().write(true).open(&file).unwrap();
    touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    drop(touched);
    fs::write(fixture.path("new"), hello(1)).unwrap();
    fs::rename(fixture.path("new"), &file).unwrap();
    fixture.stays(1, 1).await;
    fixture.host.signal("HUP");
    fixture
        .host
        .wait_for_log("the configuration was read again")
        .await;
    fixture.stays(1, 1).await;
    fs::write(&file, hello(2)).unwrap();
    fixture.becomes(2).await;
    fixture.stays(2, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_was_rolled_back_is_not_deployed_again_by_itself() {
    let fixture = Fixture::with("x.wasm", "[guest.x.rollback]\nrequests = 5", |_| {});
    let file = fixture.path("x.wasm");
    let bad = component("fixture-faults");
    fs::copy(&bad, &file).unwrap();
    wait_until(
        "an earlier version is live again",
        SWAP_TIME_MAX,
        async || {
            fixture.browser.get(&fixture.host.url("/trap")).await;
            let log = fixture.host.log();
            ensure!(log.contains("an earlier version is live again"), log);
            Ok(())
        },
    )
    .await;
    fixture.stays(1, 1).await;
    fs::copy(&bad, &file).unwrap();
    fixture.host.signal("HUP");
    fixture
        .host
        .wait_for_log("the configuration was read again")
        .await;
    fixture.stays(1, 1).await;
    fs::write(&file, hello(3)).unwrap();
    fixture.becomes(3).await;
    fixture.stays(3, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_watch_swaps_only_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.wasm");
    fs::write(&file, hello(1)).unwrap();
    let host = Config::over("memory:")
        .top("server = { watch = false }")
        .guest_at("/", "x", &file, "")
        .start();
    let fixture = Fixture {
        host,
        browser: Browser::new(),
        folder,
    };
    fs::write(&file, hello(2)).unwrap();
    fixture.stays(1, 1).await;
    fixture.host.signal("HUP");
    fixture.becomes(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_of_the_counter_is_served_soon_after_the_rename() {
    const SWAPS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counter.wasm");
    fs::write(&file, counter('번')).unwrap();
    let host = Config::over("memory:")
        .guest_at("/", "x", &file, "session = \"write\"")
        .start();
    let browser = Browser::new();
    let mut waits = Vec::new();
    for swap in 0..SWAPS {
        // Hangul letters of three bytes each, so that all versions differ.
        let letter = char::from_u32('가' as u32 + swap as u32).unwrap();
        let new = folder.path().join("new");
        fs::write(&new, counter(letter)).unwrap();
        fs::rename(&new, &file).unwrap();
        let renamed_at = Instant::now();
        wait_until("the new version serves", SWAP_TIME_MAX, async || {
            let text = browser.get(&host.url("/session")).await.text;
            ensure!(text.ends_with(&format!("{letter} 접속")), text);
            Ok(())
        })
        .await;
        waits.push(renamed_at.elapsed());
    }
    waits.sort();
    eprintln!(
        "from file to first answer: median {:?}, least {:?}, most {:?}",
        waits[SWAPS / 2],
        waits[0],
        waits[SWAPS - 1]
    );
    assert!(waits[SWAPS / 2] < Duration::from_secs(2), "{waits:?}");
}
