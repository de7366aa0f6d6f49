//! Paths that do not name the expected regular file: pipes, devices, files writable by others. The host reports them and never blocks on
//! one.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, SECRET, binary, component};
use cloakroom_tests::wait::try_block_until;

/// Longest wait for an answer on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

fn secret(path: &Path, mode: u32) {
    std::fs::write(path, SECRET).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a command that must end by itself. Returns its exit code and output.
fn run(folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut child = Command::new(binary())
        .args(words)
        .current_dir(folder)
        .env("COOKIE_SECRET", SECRET)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(
            std::fs::File::create(folder.join("said")).unwrap(),
        ))
        .spawn()
        .unwrap();
    let what = format!("`cloakroom {}` has ended", words.join(" "));
    let ended = try_block_until(&what, WAIT_MAX, || {
        child.try_wait().unwrap().context("it goes on")
    });
    let status = ended.unwrap_or_else(|error| {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{error}");
    });
    let text = std::fs::read_to_string(folder.join("said")).unwrap();
    (status.code(), text)
}

#[test]
fn a_pipe_or_a_device_instead_of_a_file_is_refused_without_blocking() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    pipe(&at("pipe"));
    symlink("/dev/zero", at("device")).unwrap();
    let hello = component("fixture-hello");
    let hello = hello.display().to_string();
    let config = |name: &str, top: &str, session: &str, store: &str, guest: &str| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\n{top}\n[session]\n{session}\n[store]\n{store}\n[guest.g]\ncomponent = {guest:?}\n\
             [[route]]\npath = \"/\"\nguest = \"g\"\n"
        );
        std::fs::write(at(name), text).unwrap();
    };
    let secrets = "secrets = [\"env:COOKIE_SECRET\"]";
    let memory = "url = \"memory:\"";
    for (odd, kind) in [("pipe", "a pipe"), ("device", "a device")] {
        let secret_file = format!("secrets = [\"file:{odd}\"]");
        config("secret.toml", "", &secret_file, memory, &hello);
        config("component.toml", "", secrets, memory, odd);
        let ca_file = format!("url = \"mysql://u@db.example/d\"\nca_file = {odd:?}");
        config("ca.toml", "", secrets, &ca_file, &hello);
        let token = format!("admin = {{ listen = \"127.0.0.1:0\", token = \"file:{odd}\" }}");
        config("token.toml", &token, secrets, memory, &hello);
        for words in [
            &["serve", "--config", "secret.toml"][..],
            &["check", "--config", "secret.toml"],
            &["serve", "--config", "component.toml"],
            &["serve", "--config", "ca.toml"],
            &["serve", "--config", "token.toml"],
            &["serve", "--config", odd],
            &["check", "--config", odd],
            &["serve", odd, "--store", "memory:"],
            &[
                "serve",
                &hello,
                "--listen",
                "127.0.0.1:0",
                "--store",
                &format!("sqlite:{odd}"),
            ],
            &["inspect", odd],
            &["dev", "--config", odd],
            &["guests", "put", "g", odd],
            &["guests", "list", "--token-file", odd],
        ] {
            let (code, text) = run(folder.path(), words);
            assert_eq!(code, Some(2), "{words:?}: {text}");
            let is_named = ["is not a file", "is not the path of a file", kind];
            let is_named = is_named.iter().any(|words| text.contains(words));
            // The embedded store reports the canonical path of its file.
            let is_whose = text.contains(odd) || text.contains("/dev/zero");
            assert!(is_named && is_whose, "{words:?}: {text}");
        }
    }
}

#[test]
fn a_secret_that_others_may_write_is_refused_and_one_that_all_may_read_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hello = component("fixture-hello").display().to_string();
    let text = format!(
        "[session]\nsecrets = [\"file:link\"]\n[store]\nurl = \"memory:\"\n[guest.g]\ncomponent = {hello:?}\n[[route]]\npath = \"/\"\n\
         guest = \"g\"\n"
    );
    std::fs::write(at("cloakroom.toml"), text).unwrap();
    symlink("..data", at("link")).unwrap();
    for (mode, expected, warning) in [
        (0o600, 0, ""),
        (0o440, 0, ""),
        (0o644, 0, "every user of this machine may read"),
        (
            0o664,
            2,
            "users other than its owner may write to it (mode 664)",
        ),
        (
            0o606,
            2,
            "users other than its owner may write to it (mode 606)",
        ),
    ] {
        secret(&at("..data"), mode);
        let (code, text) = run(folder.path(), &["check", "--config", "cloakroom.toml"]);
        assert_eq!(code, Some(expected), "{mode:o}: {text}");
        assert!(text.contains(warning), "{mode:o}: {text}");
        assert_eq!(text.is_empty(), warning.is_empty(), "{mode:o}: {text}");
        assert!(!text.contains(SECRET));
    }
}

#[test]
fn a_generated_secret_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.sqlite.secret");
    let hello = component("fixture-hello").display().to_string();
    let words = [
        "serve",
        &hello,
        "--store",
        "sqlite:s.sqlite",
        "--listen",
        "127.0.0.1:0",
    ];
    secret(&file, 0o640);
    let (code, text) = run(folder.path(), &words);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("users other than its owner may read it (mode 640)"),
        "{text}"
    );
    assert!(text.contains("chmod 600"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_reload_a_secret_that_cannot_be_read_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    secret(&file, 0o600);
    let keys = format!("secrets = [\"file:{}\"]", file.display());
    let config = Config::over("memory:")
        .session(&keys)
        .guest("/s", "fixture-session");
    let host = config.start();
    let browser = Browser::new();
    super::script(&browser, &host, &["set n 1"]).await;
    for (round, problem) in [
        "it is a pipe",
        "users other than its owner may write",
        "No such file",
    ]
    .into_iter()
    .enumerate()
    {
        let _ = std::fs::remove_file(&file);
        match round {
            0 => pipe(&file),
            1 => secret(&file, 0o666),
            _ => {}
        }
        host.signal("HUP");
        host.wait_for_log_count("reload refused", round + 1).await;
        host.wait_for_log(problem).await;
        let lines = super::script(&browser, &host, &["get n"]).await;
        assert_eq!(lines, ["1"], "{problem}: {}", host.log());
    }
}
