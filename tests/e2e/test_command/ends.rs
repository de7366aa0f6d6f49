//! The end of `cloakroom test`: its exit code, its output, and the files and processes that it leaves untouched.

use std::process::Output;
use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::wait::wait_until;
use reqwest::Method;

use super::{STAYS, TestControl, command, project};

/// Runs the command to its end. Returns the exit code, standard output and standard error.
fn run_test(folder: &tempfile::TempDir, args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(folder.path()).args(args).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    (status.code(), stdout, stderr)
}

/// Waits until no process has this id.
async fn wait_for_the_end_of(pid: &str) {
    let what = format!("process {pid} has ended");
    wait_until(&what, Duration::from_secs(30), async || {
        ensure!(!std::path::Path::new("/proc").join(pid).exists());
        Ok(())
    })
    .await;
}

#[test]
fn the_exit_code_and_the_output_are_those_of_the_test_command() {
    let script = "printf '<%s>' ok ";
    let folder = project("counter", script, "");
    let passed = run_test(&folder, &["--", "-k", "it's $HOME"]);
    assert_eq!(
        passed,
        (Some(0), "<ok><-k><it's $HOME>".to_owned(), String::new())
    );
    let folder = project("counter", "echo two of nine failed >&2; exit 5", "");
    let failed = run_test(&folder, &[]);
    assert_eq!(
        failed,
        (Some(5), String::new(), "two of nine failed\n".to_owned())
    );
}

#[test]
fn without_a_build_the_existing_component_is_tested() {
    let folder = project("counter", "exit 0", "");
    let (code, _, stderr) = run_test(&folder, &["--no-build"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("built.wasm"), "{stderr}");
    assert_eq!(run_test(&folder, &[]).0, Some(0));
    std::fs::remove_file(folder.path().join("built.wasm")).unwrap();
    std::fs::write(folder.path().join("built.wasm"), "no component").unwrap();
    let (code, _, stderr) = run_test(&folder, &["--no-build"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("not a WebAssembly component"), "{stderr}");
}

#[test]
fn a_project_that_cannot_be_tested_is_refused_with_the_reason() {
    let folder = project("counter", "exit 0", "");
    let file = folder.path().join("cloakroom.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let run = |text: String| {
        std::fs::write(&file, text).unwrap();
        let (code, _, stderr) = run_test(&folder, &[]);
        (code, stderr)
    };
    let (code, stderr) = run(text.replace("test = \"exit 0\"\n", ""));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("guest.g.build.test"), "{stderr}");
    assert!(stderr.contains("write test = \"npm test"), "{stderr}");

    let (code, stderr) = run(text.replace("session = \"write\"", "sesion = \"write\""));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("guest.g.sesion"), "{stderr}");

    let (code, stderr) = run(text.replace(
        "command = \"",
        "command = \"echo a bracket is missing; false; ",
    ));
    assert_eq!(
        code,
        Some(0),
        "the last command of a line decides: {stderr}"
    );
    let (code, stderr) = run(text.replace(
        "command = \"",
        "command = \"echo a bracket is missing; exit 9; ",
    ));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.starts_with("a bracket is missing\n"), "{stderr}");
    assert!(stderr.contains("g was not built"), "{stderr}");

    std::fs::remove_file(&file).unwrap();
    let (code, _, stderr) = run_test(&folder, &[]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("call it in a project's folder"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_the_database_nor_the_secrets_of_the_project_are_needed() {
    let control = TestControl::with(
        "counter",
        "[session]\nsecrets = [\"env:NOBODY_SET_THIS\"]\n[store]\nurl = \"mysql://app@127.0.0.1:1/app\"\n\
         password = \"file:/not/there\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:NOR_THIS\"",
    );
    let (_, url) = control.host().await;
    assert_eq!(super::count(&Browser::new(), &url).await, "1");
    let log = control.running.log();
    assert!(!log.contains("cloakroom: "), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_the_project_are_left_alone_and_code_is_kept_in_it() {
    let folder = project("counter", STAYS, "");
    let mut command = command(folder.path());
    command.env_remove("CLOAKROOM_SERVER_CODE_CACHE");
    let running = cloakroom_tests::host::Host::spawn(command, folder);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let control = TestControl { running, client };
    let (_, url) = control.host().await;
    assert_eq!(super::count(&Browser::new(), &url).await, "1");
    let kept = control.running.directory.path().join(".cloakroom");
    let names = std::fs::read_dir(kept).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["code"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_output_is_prefixed_with_the_guests_name_and_the_host_is_quiet() {
    let control = TestControl::of("fixture-session");
    let (host, url) = control.host().await;
    let browser = Browser::new();
    browser.post(&url, "log milk is missing\nset a 1").await;
    control
        .post(
            &format!("{host}/rivals"),
            serde_json::json!({"set": {"a": 2}}),
        )
        .await;
    browser.post(&url, "log once more\nget a\nset a 3").await;
    control.running.wait_for_log("g (run 2): once more\n").await;
    let log = control.running.log();
    let lines: Vec<_> = log.lines().skip(1).collect();
    let expected = ["g: milk is missing", "g: once more", "g (run 2): once more"];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_the_command_with_all_its_processes_and_the_hosts() {
    let test = "sleep 600 & echo $! > pid; echo at $CLOAKROOM_TEST_URL; wait";
    let folder = project("counter", test, "");
    let running = cloakroom_tests::host::Host::spawn(command(folder.path()), folder);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut control = TestControl { running, client };
    let (_, url) = control.host().await;
    let pid = std::fs::read_to_string(control.running.directory.path().join("pid")).unwrap();
    control.running.signal("INT");
    let status = control.running.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(130), "{}", control.running.log());
    wait_for_the_end_of(pid.trim()).await;
    let gone = Browser::new().try_send(Method::GET, &url, "").await;
    assert!(gone.is_err(), "hosts end with their run");
}

/// Waits until a command has written a process id to this file, and returns the id.
async fn number_in(file: &std::path::Path) -> String {
    let what = format!("{} contains a line", file.display());
    wait_until(&what, Duration::from_secs(60), async || {
        let text = std::fs::read_to_string(file)?;
        ensure!(text.ends_with('\n'));
        Ok(text.trim().to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_a_build_with_all_its_processes() {
    let folder = project("counter", "echo tested > tested", "");
    let file = folder.path().join("cloakroom.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let builds = "command = \"sleep 600 & echo $! > pid; wait; ";
    std::fs::write(&file, text.replace("command = \"", builds)).unwrap();
    let mut running = command(folder.path()).spawn().unwrap();
    let pid = number_in(&folder.path().join("pid")).await;
    let mut kill = std::process::Command::new("kill");
    let sent = kill.args(["-TERM", &running.id().to_string()]).status();
    assert!(sent.unwrap().success());
    let ended = tokio::task::spawn_blocking(move || running.wait());
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    let status = ended.expect("it ends").unwrap().unwrap();
    assert_eq!(status.code(), Some(143));
    wait_for_the_end_of(&pid).await;
    assert!(!folder.path().join("tested").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_the_whole_run() {
    let test = "echo at $CLOAKROOM_TEST_URL; echo $$ > pid; exec sleep 600";
    let folder = project("counter", test, "");
    let file = folder.path().join("cloakroom.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    let built = cloakroom_tests::host::component("counter")
        .display()
        .to_string();
    text.push_str(&format!(
        "[guest.other]\ncomponent = \"other.wasm\"\nsession = \"write\"\n\
         [guest.other.build]\ncommand = \"cp '{built}' other.wasm\"\ntest = \"echo tested > tested\"\n\
         [[route]]\npath = \"/other\"\nguest = \"other\"\n"
    ));
    std::fs::write(&file, text).unwrap();
    let mut running = cloakroom_tests::host::Host::spawn(command(folder.path()), folder);
    let pid = number_in(&running.directory.path().join("pid")).await;
    running.signal("INT");
    let status = running.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(130), "{}", running.log());
    wait_for_the_end_of(&pid).await;
    let tested = running.directory.path().join("tested");
    assert!(!tested.exists(), "the other guest's tests are not begun");
}

#[test]
fn a_closed_standard_error_does_not_stop_a_build() {
    let folder = project("counter", "echo tested > tested", "");
    let file = folder.path().join("cloakroom.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let builds = "command = \"sleep 1; echo a warning >&2; sleep 1; ";
    std::fs::write(&file, text.replace("command = \"", builds)).unwrap();
    let mut command = command(folder.path());
    let mut running = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(running.stderr.take());
    assert_eq!(running.wait().unwrap().code(), Some(0));
    assert!(folder.path().join("tested").exists());
}
