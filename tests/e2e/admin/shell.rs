//! `cloakroom guests` against a running host.

use std::process::{Command, Output};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Host, binary, component};
use cloakroom_tests::port::Port;

use super::{HELLO, TOKEN, hello, hello_with_token, page};

/// Runs `cloakroom guests` with these arguments against this host.
async fn guests(host: &Host, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.arg("guests").args(args);
    command.args(["--admin", &host.admin()]);
    command.env_remove("CLOAKROOM_ADMIN_TOKEN");
    command.envs(variables.iter().copied());
    run(command).await
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn result_of(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn file(name: &str) -> String {
    component(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_listed_put_and_rolled_back() {
    let host = hello().start();
    let other = file("fixture-faults");
    let call = async |args: &[&str]| result_of(&guests(&host, args, &[]).await);

    let (code, list, _) = call(&["list"]).await;
    assert_eq!(code, Some(0));
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("GUEST ") && lines.len() == 2, "{list}");
    assert!(
        lines[1].starts_with(HELLO) && lines[1].contains(" live "),
        "{list}"
    );

    let (code, tried, _) = call(&["put", HELLO, &other, "--dry-run"]).await;
    assert_eq!(code, Some(0), "{tried}");
    assert!(
        tried.contains("would serve in place of version 1"),
        "{tried}"
    );
    assert!(tried.contains("cloakroom:http/session"), "{tried}");
    assert_eq!(page(&host).await, "hello\n");

    let (code, put, progress) = call(&["put", HELLO, &other, "--expect", "1"]).await;
    assert_eq!(code, Some(0), "{progress}");
    assert!(
        put.starts_with(&format!("{HELLO}: version 2 is live (")),
        "{put}"
    );
    let steps: Vec<_> = progress.lines().collect();
    assert!(
        steps[0].starts_with(&format!("{HELLO}: uploading ")),
        "{progress}"
    );
    assert!(
        !progress.contains('\r') && !progress.contains('\u{1b}'),
        "no terminal, no cursor"
    );

    let (code, again, _) = call(&["put", HELLO, &other]).await;
    assert_eq!(code, Some(0));
    assert!(again.contains("live already"), "{again}");

    let (code, back, _) = call(&["rollback", HELLO]).await;
    assert_eq!(
        (code, back),
        (Some(0), format!("{HELLO}: version 1 serves\n"))
    );
    assert_eq!(Browser::new().get(&host.url("/env")).await.text, "hello\n");
    let (code, _, error) = call(&["rollback", HELLO]).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("no earlier version"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_guests_command_are_reported_with_a_remedy() {
    let host = hello().start();
    let call = async |args: &[&str]| result_of(&guests(&host, args, &[]).await);
    let command = file("fixture-command");
    let good = file("fixture-faults");
    for (args, code, part) in [
        (
            &["put", HELLO, "/no/such/file.wasm"][..],
            2,
            "cannot read /no/such/file.wasm",
        ),
        (
            &["put", HELLO, &command],
            2,
            "wasi:http/incoming-handler@0.2",
        ),
        (&["put", "nobody", &good], 2, HELLO),
        (&["put", "../x", &good], 2, "not a guest name"),
        (
            &["put", HELLO, &good, "--expect", "7"],
            1,
            "cloakroom guests list",
        ),
    ] {
        let (exit, _, error) = call(args).await;
        assert_eq!(exit, Some(code), "{args:?}: {error}");
        assert!(error.contains(part), "{args:?}: {error}");
    }
    assert_eq!(page(&host).await, "hello\n");

    let free = Port::free();
    let address = format!("127.0.0.1:{}", free.number());
    let url = format!("http://{address}");
    for (url, code, part) in [
        (url.as_str(), 1, format!("--admin {address}")),
        ("https://127.0.0.1:3001", 2, "ssh -L".to_owned()),
        ("nonsense", 2, "http://127.0.0.1:3001".to_owned()),
        (&host.url("")[..], 2, "no admin interface".to_owned()),
    ] {
        let mut command = Command::new(binary());
        command.args(["guests", "list", "--admin", url]);
        let (exit, _, error) = result_of(&run(command).await);
        assert_eq!(exit, Some(code), "{url}: {error}");
        assert!(error.contains(&part), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_comes_from_a_file_or_the_environment() {
    let host = hello_with_token().start();
    let path = host.directory.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let path = path.display().to_string();
    let wrong = [("CLOAKROOM_ADMIN_TOKEN", "wrong")];
    let right = [("CLOAKROOM_ADMIN_TOKEN", TOKEN)];
    let by_file = ["list", "--token-file", &path];
    for (args, variables, code) in [
        (&["list"][..], &[][..], 2),
        (&["list"], &wrong, 2),
        (&["list"], &right, 0),
        (&by_file, &wrong, 0),
    ] {
        let (exit, _, error) = result_of(&guests(&host, args, variables).await);
        assert_eq!(exit, Some(code), "{args:?} {variables:?}: {error}");
        assert!(code == 0 || error.contains("--token-file"), "{error}");
        assert!(!error.contains(TOKEN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefer_first_is_refused_for_a_store_without_a_list_of_servers() {
    let host = hello_with_token().start();
    for (token, code, part) in [
        (TOKEN, 1, "no list of servers"),
        ("not-the-token", 2, "--token-file"),
    ] {
        let mut command = Command::new(binary());
        command.args(["store", "prefer-first", "--admin", &host.admin()]);
        command.env("CLOAKROOM_ADMIN_TOKEN", token);
        let (exit, _, error) = result_of(&run(command).await);
        assert_eq!(exit, Some(code), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_without_a_token_is_refused_before_it_serves() {
    for (address, token, part) in [
        ("0.0.0.0:0", None, "openssl rand"),
        ("0.0.0.0:0", Some("short"), "has 5 bytes"),
    ] {
        let mut command = Command::new(binary());
        command.arg("serve").arg(component("fixture-hello"));
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--store",
            "memory:",
            "--admin",
            address,
        ]);
        command.env_remove("CLOAKROOM_ADMIN_TOKEN");
        command.envs(token.map(|token| ("CLOAKROOM_ADMIN_TOKEN", token)));
        let (exit, _, error) = result_of(&run(command).await);
        assert_eq!(exit, Some(2), "{error}");
        assert!(
            error.contains("admin.token") && error.contains(part),
            "{error}"
        );
    }
}
