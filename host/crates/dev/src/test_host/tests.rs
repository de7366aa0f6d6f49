//! Tests of the options and the configuration of `cloakroom test`. `tests/e2e/test_command.rs` tests the command itself.

use super::*;

/// Returns the configuration of a project, or its faults.
fn config(build: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloakroom.toml");
    let text = format!(
        "[guest.a]\ncomponent = \"a.wasm\"\n{build}\n[[route]]\npath = \"/\"\nguest = \"a\""
    );
    std::fs::write(&file, text).unwrap();
    let call = TestCall {
        config: Some(file),
        building: BuildMode::First,
        arguments: Vec::new(),
    };
    Config::load(&call.cli_options(), &[]).expect("a whole configuration")
}

#[test]
fn a_project_without_a_test_command_is_refused_with_a_remedy() {
    let config = config("[guest.a.build]\ncommand = \"true\"");
    let fault = tests(&config).err().expect("a fault");
    assert_eq!(fault.key, "guest.a.build.test");
    assert!(fault.remedy.contains("npm test"), "{fault}");
}

#[test]
fn only_warnings_and_guests_are_logged_unless_more_is_asked_for() {
    let config = config("[guest.a.build]\ncommand = \"true\"\n[log]\nlevel = \"debug\"");
    let filter = |environment: &dyn Environment| log(&config, environment).filter;
    assert!(filter(&[]).starts_with("warn,guest=info,"));
    assert!(telemetry::check_filter(LOG_FILTER).is_ok());
    let engine = format!("{}=error", telemetry::ENGINE_TARGET);
    assert!(LOG_FILTER.contains(&engine), "{LOG_FILTER}");
    assert_eq!(filter(&[(LOG_VARIABLE, "debug")]), "debug");
    assert_eq!(log(&config, &[]).format, LogFormat::Brief);
}
