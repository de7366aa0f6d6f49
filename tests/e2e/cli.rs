//! The command line of the binary: `serve` and `check`, and their messages for a bad configuration.

use std::process::{Command, Output};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, binary, component};

fn check(text: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloakroom.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(directory.path().join("text.wasm"), "this is no component").unwrap();
    Command::new(binary())
        .arg("check")
        .arg("--config")
        .arg(&file)
        .current_dir(&directory)
        .output()
        .unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_good_configuration_checks_out() {
    let output = Command::new(binary())
        .args(["check", "--config"])
        .arg({
            let directory = Box::leak(Box::new(tempfile::tempdir().unwrap()));
            let file = directory.path().join("cloakroom.toml");
            std::fs::write(
                &file,
                Config::over("memory:").guest("/session", "counter").text(),
            )
            .unwrap();
            file
        })
        .env("COOKIE_SECRET", cloakroom_tests::host::SECRET)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
}

#[test]
fn every_fault_is_named_at_once_with_its_remedy() {
    let output = check(
        r#"
listen = 3000
lissten = "127.0.0.1:3000"
[session]
name = "a b"
secure = true
secrets = ["env:NO_SUCH_VARIABLE"]
[session.cookie]
same_site = "sometimes"
[store]
url = "sqlite:x.sqlite"
expiration = "soon"
[guest.a]
component = "missing.wasm"
[guest.b]
component = "text.wasm"
[[route]]
path = "/{"
guest = "nobody"
"#,
    );
    let printed = text_of(&output);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    for key in [
        "listen",
        "lissten",
        "session.name",
        "session.secure",
        "[session.cookie]",
        "NO_SUCH_VARIABLE",
        "same_site",
        "store.expiration",
        "guest.a.component",
        "missing.wasm",
        "guest.b.component",
        "nobody",
    ] {
        assert!(printed.contains(key), "nothing about {key}:\n{printed}");
    }
}

#[test]
fn a_weak_secret_is_refused_unless_it_is_asked_for() {
    let text = |extra: &str| {
        let secret = "secrets = [\"env:SHORT\"]";
        Config::over("memory:")
            .session(&format!("{secret}\n{extra}"))
            .guest("/", "counter")
            .text()
    };
    let run = |text: String| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cloakroom.toml");
        std::fs::write(&file, text).unwrap();
        Command::new(binary())
            .args(["check", "--config"])
            .arg(file)
            .env("SHORT", "tiny cat")
            .output()
            .unwrap()
    };
    let refused = run(text(""));
    assert_eq!(refused.status.code(), Some(2), "{}", text_of(&refused));
    assert!(
        text_of(&refused).contains("allow_short_secrets"),
        "{}",
        text_of(&refused)
    );
    assert!(
        !text_of(&refused).contains("tiny cat"),
        "the secret is not shown"
    );
    let allowed = run(text("allow_short_secrets = true"));
    assert_eq!(allowed.status.code(), Some(0), "{}", text_of(&allowed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_alone_is_served_with_the_embedded_store() {
    // The folder belongs to the test and not to a host, so that the second host finds the files of the first.
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = Command::new(binary());
        command
            .arg("serve")
            .arg(component("counter"))
            .args(["--listen", "127.0.0.1:0"])
            .current_dir(folder.path());
        Host::spawn(command, tempfile::tempdir().unwrap())
    };
    let mut host = start();
    let browser = Browser::new();
    assert_eq!(browser.get(&host.url("/")).await.text, "1번 접속");
    assert_eq!(browser.get(&host.url("/session")).await.text, "2번 접속");
    let cookie = browser.cookies(&host.url("/")).unwrap();
    assert!(host.terminate().success(), "SIGTERM is a clean end");
    drop(host);
    let host = start();
    let same = Browser::with_cookie(&host.url("/"), &cookie);
    assert_eq!(
        same.get(&host.url("/any/where")).await.text,
        "3번 접속",
        "secret and row outlive the process"
    );
}

#[test]
fn a_taken_port_is_a_clear_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .arg("serve")
        .arg(component("counter"))
        .args(["--listen", &address, "--store", "memory:"])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = text_of(&output);
    assert!(
        printed.contains(&format!("cannot listen on {address}: port")),
        "{printed}"
    );
    assert!(printed.contains("name another port: --listen"), "{printed}");
}

#[test]
fn an_address_of_another_machine_is_a_clear_failure() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .arg("serve")
        .arg(component("counter"))
        // This address is reserved for documentation, so no machine has it.
        .args(["--listen", "192.0.2.1:3000", "--store", "memory:"])
        .current_dir(&directory)
        .output()
        .unwrap();
    let printed = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("192.0.2.1 is not an address of this machine"),
        "{printed}"
    );
    assert!(printed.contains("--listen"), "{printed}");
}

#[test]
fn questionable_settings_pass_the_check_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloakroom.toml");
    let text = Config::over("memory:").guest("/session", "counter").text();
    let component = component("counter");
    let idle = format!(
        "{text}[guest.idle]\ncomponent = {:?}\n",
        component.display().to_string()
    );
    let run = |text: &str, command: &str| {
        std::fs::write(&file, text).unwrap();
        Command::new(binary())
            .args([command, "--config"])
            .arg(&file)
            .env("COOKIE_SECRET", cloakroom_tests::host::SECRET)
            .env("CLOAKROOM_SESSION_MAX_AGE", "1h of hunter2")
            .output()
            .unwrap()
    };
    let variable =
        "CLOAKROOM_SESSION_MAX_AGE: has no effect: did you mean CLOAKROOM_SESSION_COOKIE_MAX_AGE";

    let output = run(&idle, "check");
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    assert!(
        warnings.contains("warning: guest.idle: no route leads to it\n"),
        "{warnings}"
    );
    assert!(
        warnings.contains(&format!("warning: environment {variable}")),
        "{warnings}"
    );
    assert!(!text_of(&output).contains("hunter2"));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("ok: 2 guests, 1 route, "));

    for command in ["check", "serve"] {
        let refused = text_of(&run(
            &idle.replace("[guest.idle]", "[guest.idle]\nsesion = 1"),
            command,
        ));
        assert!(refused.contains(variable), "beside a fault, too: {refused}");
    }
}
