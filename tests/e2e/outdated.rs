//! A component that was built against an older `cloakroom:http`: all ways in refuse it with the remedy, and the host serves on.

use std::path::Path;
use std::process::{Command, Output};

use cloakroom_tests::admin::{Operator, json};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, binary, component};

const OUTDATED: &str = include_str!("../../host/crates/runtime/src/tests/outdated.wat");
const REMEDY: &str = "built against an older cloakroom:http: build it again";
const NAME: &str = "fixture-hello0";

fn run(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    let command = command.args(words).current_dir(folder);
    command.output().unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn check_serve_and_inspect_advise_to_rebuild_an_outdated_component() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = wat::parse_str(OUTDATED).unwrap();
    std::fs::write(folder.path().join("old.wasm"), bytes).unwrap();
    let config = "[store]\nurl = \"memory:\"\n[guest.old]\ncomponent = \"old.wasm\"\nsession = \"write\"\n\
                  [[route]]\npath = \"/\"\nguest = \"old\"\n";
    std::fs::write(folder.path().join("cloakroom.toml"), config).unwrap();
    for command in ["check", "serve"] {
        let refused = run(folder.path(), &[command, "--config", "cloakroom.toml"]);
        let words = text_of(&refused);
        assert_eq!(refused.status.code(), Some(2), "{words}");
        for part in [
            "guest.old.component",
            REMEDY,
            "cloakroom:http/session@0.1.0",
            "`cloakroom new` of this version",
        ] {
            assert!(words.contains(part), "{command}: {part}: {words}");
        }
    }
    let inspected = run(folder.path(), &["inspect", "old.wasm", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(report["fits"], false);
    assert!(
        report["reason"].as_str().unwrap().contains(REMEDY),
        "{report}"
    );
    let inspected = text_of(&run(folder.path(), &["inspect", "old.wasm"]));
    assert!(inspected.contains(REMEDY), "{inspected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_host_refuses_an_outdated_component_from_admin_and_file() {
    let bytes = wat::parse_str(OUTDATED).unwrap();
    let host = Config::over("memory:")
        .guest_with("/", "fixture-hello", "")
        .admin("")
        .start();
    let put = Operator::of(&host).put(NAME, bytes.clone()).await;
    assert_eq!(put.status, 422, "{}", put.text);
    assert!(json(&put).to_string().contains(REMEDY), "{}", put.text);
    assert_eq!(Browser::new().get(&host.url("/")).await.text, "hello\n");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hello.wasm");
    std::fs::copy(component("fixture-hello"), &file).unwrap();
    let watching = Config::over("memory:")
        .guest_at("/", "hello", &file, "")
        .start();
    let next = folder.path().join("next.wasm");
    std::fs::write(&next, bytes).unwrap();
    std::fs::rename(&next, &file).unwrap();
    watching.wait_for_log(REMEDY).await;
    assert_eq!(Browser::new().get(&watching.url("/")).await.text, "hello\n");
}
