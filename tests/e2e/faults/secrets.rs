//! Fault 34: a secret's file is missing, a folder, empty or too short, at a start and at a reload.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, SECRET};

use crate::script;

fn config(file: &Path) -> Config {
    let secrets = format!("secrets = [\"file:{}\"]", file.display());
    Config::over("memory:")
        .session(&secrets)
        .guest("/s", "fixture-session")
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Replaces the file by the invalid one of this case.
fn spoil(file: &Path, case: &str) {
    // Some cases leave no file or no folder.
    let _ = fs::remove_file(file);
    let _ = fs::remove_dir(file);
    match case {
        "gone" => {}
        "a folder" => fs::create_dir(file).unwrap(),
        "empty" => write(file, ""),
        "a line end" => write(file, "\n"),
        "short" => write(file, "keyboard cat"),
        other => panic!("{other}"),
    }
}

const CASES: [&str; 5] = ["gone", "a folder", "empty", "a line end", "short"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_cannot_be_read_at_a_reload_leaves_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    write(&file, SECRET);
    let host = config(&file).start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    for (at, case) in CASES.into_iter().enumerate() {
        spoil(&file, case);
        host.signal("HUP");
        host.wait_for_log_count("reload refused: ", at + 1).await;
        assert_eq!(script(&browser, &host, &["get n"]).await, ["1"], "{case}");
        // The host still signs with the old secret: a new session remains valid after a good reload, too.
        let other = Browser::new();
        script(&other, &host, &["set n 2"]).await;
        assert_eq!(script(&other, &host, &["get n"]).await, ["2"], "{case}");
    }
    spoil(&file, "gone");
    write(&file, SECRET);
    host.signal("HUP");
    host.wait_for_log("the configuration was read again").await;
    assert_eq!(script(&browser, &host, &["get n"]).await, ["1"]);
    assert!(!host.log().contains("keyboard cat"), "{}", host.log());
}

#[test]
fn a_secret_that_cannot_be_read_at_a_start_is_a_fault_that_names_its_key() {
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        spoil(&file, case);
        let text = folder.path().join("cloakroom.toml");
        fs::write(&text, config(&file).text()).unwrap();
        let ended = std::process::Command::new(cloakroom_tests::host::binary())
            .args(["serve", "--config"])
            .arg(&text)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{case}: {stderr}");
        assert!(stderr.contains("session.secrets[0]"), "{case}: {stderr}");
        assert!(!stderr.contains("keyboard cat"), "{case}: {stderr}");
    }
}
