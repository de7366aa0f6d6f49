//! The reports of `cloakroom inspect` on real components, on files that are not components, and on a configuration's grants.

use std::path::Path;
use std::process::{Command, Output};

use cloakroom_tests::host::{binary, component};

fn inspect(folder: &Path, file: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    let command = command.arg("inspect").arg(file).args(args);
    // The report must not depend on variables that are set where the tests run.
    command.env("TOKEN", "hunter2").current_dir(folder);
    command.output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", text_of(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn inspect_shows_a_component_and_the_grants_that_serve_gives_it() {
    let folder = tempfile::tempdir().unwrap();
    let counter = component("counter");
    let report = json(&inspect(folder.path(), &counter, &["--json"]));
    assert_eq!(report["bytes"], counter.metadata().unwrap().len());
    assert_eq!(report["digest"].as_str().unwrap().len(), 64);
    assert_eq!(report["world"], "wasi:http 0.2");
    assert_eq!(report["fits"], true);
    assert_eq!(report["uses"]["session"], true);
    assert_eq!(report["uses"]["outbound_http"], false);
    let imports = report["imports"]["cloakroom"].as_array().unwrap();
    assert!(
        imports
            .iter()
            .any(|it| it.as_str().unwrap().starts_with("cloakroom:http/session@"))
    );
    let tools = report["made_by"].as_array().unwrap();
    assert!(
        tools.iter().any(|tool| tool["name"] == "wit-component"),
        "{report}"
    );
    let parts = &report["parts"];
    let sum: u64 = ["code", "data", "custom", "other"]
        .iter()
        .map(|part| parts[part].as_u64().unwrap())
        .sum();
    assert_eq!(report["bytes"], sum);
    let grants = report["grants"].as_array().unwrap();
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0]["session"], "write");
    assert_eq!(grants[0]["outbound_hosts"].as_array().unwrap().len(), 0);

    let text = text_of(&inspect(folder.path(), &counter, &[]));
    for line in [
        "  world        wasi:http 0.2",
        "  fits         this host compiles and links it",
        "Granted by `cloakroom serve ",
        "  session      write (reads every key, writes every key)",
        "  limits       the defaults",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let service = json(&inspect(
        folder.path(),
        &component("counter-service"),
        &["--json"],
    ));
    assert_eq!(service["world"], "wasi:http 0.3");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "it leaves nothing behind: {left:?}");
}

#[test]
fn inspect_shows_the_grants_of_each_guest_that_uses_the_component() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(component("fixture-session"), folder.path().join("a.wasm")).unwrap();
    std::fs::copy(component("counter"), folder.path().join("b.wasm")).unwrap();
    std::fs::write(
        folder.path().join("cloakroom.toml"),
        r#"
[guest.open]
component = "a.wasm"
session = "read"
read_keys = ["cart", "user_*"]
outbound_hosts = ["api.example.com"]
environment = { TOKEN = "env:TOKEN" }
limits = { deadline = "2s", memory = "64MiB" }
[guest.shut]
component = "./a.wasm"
[guest.other]
component = "b.wasm"
[[route]]
path = "/open"
guest = "open"
[[route]]
path = "/shut"
guest = "shut"
[[route]]
path = "/other"
guest = "other"
"#,
    )
    .unwrap();
    let args = ["--config", "cloakroom.toml", "--json"];
    let output = inspect(folder.path(), Path::new("a.wasm"), &args);
    assert!(!text_of(&output).contains("hunter2"), "only names");
    let report = json(&output);
    let grants = report["grants"].as_array().unwrap();
    let names: Vec<_> = grants
        .iter()
        .map(|it| it["guest"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["open", "shut"]);
    let open = &grants[0];
    assert_eq!(open["session"], "read");
    assert_eq!(open["read_keys"][1], "user_*");
    assert_eq!(open["outbound_hosts"][0], "api.example.com");
    assert_eq!(open["environment"][0], "TOKEN");
    assert_eq!(open["limits"].as_array().unwrap().len(), 2);
    assert_eq!(open["limits"][0]["key"], "deadline");
    assert_eq!(open["limits"][0]["value"], "2s");
    let denied = |grants: &serde_json::Value, import: &str| {
        let denied = grants["denied"].as_array().unwrap();
        denied.iter().any(|it| it["import"] == import)
    };
    assert!(denied(&grants[1], "wasi:http/outgoing-handler"), "{report}");
    assert!(!denied(open, "wasi:http/outgoing-handler"), "{report}");

    let text = text_of(&inspect(folder.path(), Path::new("a.wasm"), &args[..2]));
    let line = "imports wasi:http/outgoing-handler, and there are no outbound_hosts: every call out is denied";
    assert_eq!(text.matches(line).count(), 1, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn inspect_refuses_a_file_that_is_not_a_guest_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.wasm");
    std::fs::write(&text, "this is no component").unwrap();
    for (file, reason) in [
        (
            text.as_path(),
            "this is a text file, not a WebAssembly component",
        ),
        (Path::new("nowhere.wasm"), "cannot read nowhere.wasm"),
        (&component("fixture-command"), "a command-line program"),
    ] {
        let output = inspect(folder.path(), file, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
        assert!(
            text_of(&output).contains(reason),
            "{reason}: {}",
            text_of(&output)
        );
        assert!(output.stdout.is_empty(), "{}", text_of(&output));
    }
    let args = ["--config", "nowhere.toml"];
    let output = inspect(folder.path(), &component("counter"), &args);
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
}
