//! `cloakroom dev` with a project whose "sources" are components. Its build command copies them or fails.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Host, binary, component};
use cloakroom_tests::versions;
use cloakroom_tests::wait::{pause, wait_until};
use reqwest::header::ACCEPT;

/// Longest time for a build, a compilation and a swap on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Copies src/app.wasm to build/app.wasm, or fails with the content of src/error.txt if that file exists.
const MAKE: &str = "\
mkdir -p build
if [ -e src/error.txt ]; then cat src/error.txt >&2; exit 3; fi
cp src/app.wasm build/app.new && mv build/app.new build/app.wasm
";

const GUEST: &str = "\
[guest.app]
component = \"build/app.wasm\"
session = \"write\"
[guest.app.build]
command = \"sh make.sh\"
watch = [\"src\"]
[[route]]
path = \"/{*rest}\"
guest = \"app\"
";

/// The folder of a project that is not yet served.
struct Project(tempfile::TempDir);

impl Project {
    /// Creates a project with this component as its sources.
    fn of(app: &[u8]) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        project.write("cloakroom.toml", GUEST.as_bytes());
        project.write("make.sh", MAKE.as_bytes());
        project.write("src/app.wasm", app);
        project
    }

    /// Creates a project whose guest is built by this command.
    fn built_by(command: &str) -> Self {
        let project = Self::of(b"");
        let table = GUEST.replace("sh make.sh", command);
        project.write("cloakroom.toml", table.as_bytes());
        project
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        write(self.0.path(), name, bytes);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("dev")
            .args(words)
            .current_dir(self.0.path())
            .env(
                "CLOAKROOM_SERVER_CODE_CACHE",
                binary().with_file_name("kept-code"),
            );
        command
    }

    /// Serves the project. On return the guests may still be unbuilt.
    fn serve(self) -> Host {
        Host::spawn(self.command(&["--listen", "127.0.0.1:0"]), self.0)
    }
}

fn write(folder: &std::path::Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Saves a file of the served project.
fn save(host: &Host, name: &str, bytes: impl AsRef<[u8]>) {
    write(host.directory.path(), name, bytes.as_ref());
}

/// Repeats a request until the answer has this status and contains `words`. Returns the answer's text.
async fn answers(browser: &Browser, host: &Host, path: &str, status: u16, words: &str) -> String {
    let what = format!("{path} answers {status} with {words:?}");
    wait_until(&what, WAIT_MAX, async || {
        let answer = browser.get(&host.url(path)).await;
        let is_as_wanted = answer.status == status && answer.text.contains(words);
        let (status, text) = (answer.status, answer.text);
        ensure!(is_as_wanted, "{status} {text}\n{}", host.log());
        Ok(text)
    })
    .await
}

/// Sends a request with one further header field. Returns the status, the fields and the text.
async fn ask(url: &str, name: &str, value: &str) -> (u16, reqwest::header::HeaderMap, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).header(name, value).send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_source_file_is_built_and_served() {
    let host = Project::of(&versions::hello(1)).serve();
    let browser = Browser::new();
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;
    let mut took = Vec::new();
    for number in 2..8 {
        let saved_at = Instant::now();
        save(&host, "src/app.wasm", versions::hello(number));
        answers(&browser, &host, "/", 200, &versions::answer(number)).await;
        took.push(saved_at.elapsed().as_millis());
    }
    took.sort_unstable();
    println!("save to served: {took:?} ms");
    host.wait_for_log("src/app.wasm changed").await;
    host.wait_for_log("app  version 7 is ready").await;
    host.wait_for_log("GET / 200  ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_build_is_shown_until_it_is_fixed_and_sessions_survive() {
    let host = Project::of(&versions::counter('번')).serve();
    let (browser, other) = (Browser::new(), Browser::new());
    answers(&other, &host, "/session", 200, "1번 접속").await;
    answers(&browser, &host, "/session", 200, "1번 접속").await;

    save(
        &host,
        "src/error.txt",
        "\u{1b}[31msrc/app.js:3\u{1b}[0m: a <bracket> is missing\n",
    );
    let text = answers(
        &other,
        &host,
        "/session",
        500,
        "src/app.js:3: a <bracket> is missing",
    )
    .await;
    assert!(
        text.contains("app: `sh make.sh` failed (exit status: 3)"),
        "{text}"
    );
    let (status, headers, page) = ask(&host.url("/session"), ACCEPT.as_str(), "text/html").await;
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (500, "text/html; charset=utf-8")
    );
    assert!(
        page.contains("<pre>src/app.js:3: a &lt;bracket&gt; is missing</pre>"),
        "{page}"
    );
    // Requests that the page itself sends reach no guest and are not logged. First wait for the lines of the earlier requests.
    host.wait_for_log_count(", build-failed", 2).await;
    let lines = host.log_count("GET ");
    let (_, headers, _) = ask(&host.url("/session"), "x-cloakroom-dev", "x").await;
    assert!(
        page.contains(headers["x-cloakroom-dev"].to_str().unwrap()),
        "{page}"
    );

    std::fs::remove_file(host.directory.path().join("src/error.txt")).unwrap();
    wait_until("no error is left", WAIT_MAX, async || {
        let (_, headers, _) = ask(&host.url("/session"), "x-cloakroom-dev", "x").await;
        ensure!(headers["x-cloakroom-dev"] == "none", "{}", host.log());
        Ok(())
    })
    .await;
    assert_eq!(host.log_count("GET "), lines, "{}", host.log());
    answers(&browser, &host, "/session", 200, "2번 접속").await;

    let log = host.log();
    for line in [
        "new: num = 1",
        "num 1 → 2",
        "src/error.txt changed",
        "GET /session 500  ",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    let id = crate::id_of(&browser, &host);
    assert!(!log.contains(&id), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_rebound_dns_name_is_refused() {
    let hello = std::fs::read(component("fixture-hello")).unwrap();
    let host = Project::of(&hello).serve();
    answers(&Browser::new(), &host, "/", 200, "").await;
    let url = host.url("/");
    let port = host.address().port();
    for (name, status) in [
        (format!("localhost:{port}"), 200),
        (format!("app.localhost:{port}"), 200),
        (format!("127.0.0.1:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        (format!("evil.example:{port}"), 403),
        ("evil.example".to_owned(), 403),
        ("127.0.0.1.evil.example".to_owned(), 403),
        (format!("192.0.2.1:{port}"), 403),
    ] {
        let (answered, _, text) = ask(&url, "host", &name).await;
        assert_eq!(answered, status, "{name}: {text}");
        assert_eq!(
            text.contains("http://localhost:"),
            status == 403,
            "{name}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_component_shows_its_reason_at_its_route() {
    let host = Project::of(&versions::hello(1)).serve();
    let browser = Browser::new();
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;
    let command = std::fs::read(component("fixture-command")).unwrap();
    save(&host, "src/app.wasm", command);
    answers(&browser, &host, "/", 500, "command-line program").await;
    host.wait_for_log("app  refused: ").await;
    save(&host, "src/app.wasm", versions::hello(1));
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;
    let whole = versions::hello(2);
    save(&host, "src/app.wasm", &whole[..whole.len() / 2]);
    answers(&browser, &host, "/", 500, "damaged or incomplete").await;
    save(&host, "src/app.wasm", whole);
    answers(&browser, &host, "/", 200, &versions::answer(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_configuration_is_applied_with_its_new_builds() {
    let host = Project::of(&versions::hello(1)).serve();
    let browser = Browser::new();
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;

    save(
        &host,
        "cloakroom.toml",
        GUEST.replace("\"app\"", "\"nobody\""),
    );
    host.wait_for_log("error: cloakroom.toml:").await;
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;

    let more = "[guest.more]\ncomponent = \"more/more.wasm\"\n\
                [guest.more.build]\ncommand = \"mkdir -p more && cp src/app.wasm more/more.wasm\"\nwatch = [\"src\"]\n\
                [[route]]\npath = \"/more\"\nguest = \"more\"\n";
    save(&host, "cloakroom.toml", GUEST.to_owned() + more);
    answers(&browser, &host, "/more", 200, &versions::answer(1)).await;
    host.wait_for_log("cloakroom.toml  applied").await;
    save(&host, "src/app.wasm", versions::hello(2));
    for path in ["/", "/more"] {
        answers(&browser, &host, path, 200, &versions::answer(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_configuration_is_applied_only_once_every_guest_is_built() {
    let host = Project::of(&versions::hello(1)).serve();
    let browser = Browser::new();
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;
    save(&host, "src/error.txt", "a bracket is missing");
    answers(&browser, &host, "/", 500, "a bracket is missing").await;
    let more = "[[route]]\npath = \"/more\"\nguest = \"app\"\n";
    save(&host, "cloakroom.toml", GUEST.to_owned() + more);
    host.wait_for_log("cloakroom.toml  it is applied once every guest is built")
        .await;
    assert_eq!(host.log_count("  applied"), 0, "{}", host.log());
    std::fs::remove_file(host.directory.path().join("src/error.txt")).unwrap();
    host.wait_for_log("cloakroom.toml  applied").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_refused_is_tried_again_when_it_is_saved_again() {
    let host = Project::of(&versions::hello(1)).serve();
    let browser = Browser::new();
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;
    let fixed = "[store]\nexpiration = \"1h\"\n";
    save(&host, "cloakroom.toml", fixed.to_owned() + GUEST);
    host.wait_for_log("cloakroom.toml  not applied: ").await;
    assert_eq!(host.log_count("a restart is needed"), 1, "{}", host.log());
    save(&host, "src/app.wasm", versions::hello(2));
    answers(&browser, &host, "/", 200, &versions::answer(2)).await;
    // This save is noticed after the build of the component has ended.
    save(&host, "cloakroom.toml", GUEST);
    host.wait_for_log("cloakroom.toml  applied").await;
    assert_eq!(host.log_count("a restart is needed"), 1, "{}", host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fails_at_first_is_mended_in_the_configuration() {
    let project = Project::built_by("frobnicate");
    project.write("src/app.wasm", &versions::hello(1));
    let host = project.serve();
    let browser = Browser::new();
    let text = answers(
        &browser,
        &host,
        "/",
        500,
        "`frobnicate` failed (exit status: 127)",
    )
    .await;
    assert!(text.contains("frobnicate is missing: "), "{text}");
    host.wait_for_log("app  frobnicate is missing: ").await;
    save(&host, "cloakroom.toml", GUEST);
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;
}

/// Waits until a file contains a line with a process id, and returns the id.
async fn process_id(host: &Host, name: &str) -> String {
    let what = format!("{name} contains a line");
    wait_until(&what, WAIT_MAX, async || {
        let text = std::fs::read_to_string(host.directory.path().join(name));
        let text = text.unwrap_or_default();
        let id = text.strip_suffix('\n').with_context(|| host.log())?;
        Ok(id.to_owned())
    })
    .await
}

/// Waits until a process is gone or is a zombie that has not been waited for yet.
async fn gone(id: &str) {
    let what = format!("process {id} is gone");
    wait_until(&what, Duration::from_secs(10), async || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
        ensure!(!stat.is_ok_and(|stat| !stat.contains(") Z ")));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_first_build_runs_its_routes_say_so_and_the_end_leaves_no_process() {
    let mut host = Project::built_by("sleep 600 & echo $! > pid; wait").serve();
    let browser = Browser::new();
    answers(&browser, &host, "/", 503, "app is being built: `sleep 600").await;
    let first = process_id(&host, "pid").await;
    std::fs::remove_file(host.directory.path().join("pid")).unwrap();

    save(&host, "src/app.wasm", "another");
    let second = process_id(&host, "pid").await;
    gone(&first).await;

    let reported_at = Instant::now();
    host.signal("INT");
    let status = host.ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", host.log());
    assert!(
        reported_at.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        reported_at.elapsed()
    );
    gone(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_are_set_up_once() {
    let project = Project::of(&versions::hello(1));
    let keys = "setup = \"echo once >> setups && touch tools\"\ncreates = \"tools\"\ncommand = ";
    project.write(
        "cloakroom.toml",
        GUEST.replace("command = ", keys).as_bytes(),
    );
    let host = project.serve();
    let browser = Browser::new();
    for number in 1..3 {
        save(&host, "src/app.wasm", versions::hello(number));
        answers(&browser, &host, "/", 200, &versions::answer(number)).await;
    }
    let setups = std::fs::read_to_string(host.directory.path().join("setups")).unwrap();
    assert_eq!(setups, "once\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_without_a_build_table_is_served_and_followed_by_its_file() {
    let project = Project::of(&versions::hello(1));
    let table = "[guest.app]\ncomponent = \"src/app.wasm\"\n[[route]]\npath = \"/{*rest}\"\nguest = \"app\"\n";
    project.write("cloakroom.toml", table.as_bytes());
    let host = project.serve();
    let browser = Browser::new();
    answers(&browser, &host, "/", 200, &versions::answer(1)).await;
    host.wait_for_log("there is nothing to build or to watch")
        .await;
    save(&host, "src/app.wasm", versions::hello(2));
    answers(&browser, &host, "/", 200, &versions::answer(2)).await;
    host.wait_for_log("app  version 2 is ready").await;
}

#[test]
fn a_failed_start_is_reported_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let project = Project::of(&[]);
    let empty = Project(tempfile::tempdir().unwrap());
    for (project, words, code, expected) in [
        (&project, vec!["--listen", &address], 1, "is taken"),
        (&empty, vec![], 2, "`cloakroom new NAME --lang"),
        (
            &empty,
            vec!["--config", "x.toml"],
            2,
            "cannot read the configuration x.toml",
        ),
    ] {
        let output = project.command(&words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_command_that_writes_its_own_sources_does_not_loop() {
    let project = Project::of(&versions::hello(1));
    let make = format!("{MAKE}echo again >> src/log\n");
    project.write("make.sh", make.as_bytes());
    let host = project.serve();
    host.wait_for_log("exclude the files that the command writes from `watch`")
        .await;
    let builds = host.log_count("building: sh make.sh");
    pause(Duration::from_secs(3), "no further build begins").await;
    assert_eq!(
        host.log_count("building: sh make.sh"),
        builds,
        "{}",
        host.log()
    );
    answers(&Browser::new(), &host, "/", 200, &versions::answer(1)).await;
}
