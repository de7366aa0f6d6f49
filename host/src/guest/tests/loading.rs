//! Files that are guests and files that are not.

use super::*;
use crate::guest::World;

fn refused(bytes: &[u8]) -> LoadError {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guest.wasm");
    std::fs::write(&path, bytes).unwrap();
    let settings = GuestSettings {
        component: path,
        ..settings("fixture-hello")
    };
    runtime().load(settings).unwrap_err()
}

#[test]
fn the_world_and_the_session_are_read_from_the_component() {
    for (name, world, imports_session) in [
        ("counter", World::Wasi02, true),
        ("counter-service", World::Wasi03, true),
        ("fixture-hello", World::Wasi02, false),
        ("fixture-session", World::Wasi02, true),
        ("fixture-session-service", World::Wasi03, true),
    ] {
        let guest = guest(name);
        assert_eq!(
            (guest.world(), guest.imports_session()),
            (world, imports_session),
            "{name}"
        );
    }
}

#[test]
fn a_program_for_the_command_line_is_told_what_a_handler_exports() {
    let error = runtime().load(settings("fixture-command")).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("program for the command line")
            && said.contains("wasi:http/incoming-handler@0.2"),
        "{said}"
    );
}

#[test]
fn a_broken_component_is_refused_wherever_it_breaks_off() {
    let whole = std::fs::read(component("fixture-hello")).unwrap();
    for at in [9, 100, whole.len() / 2, whole.len() - 1] {
        let error = refused(&whole[..at]);
        assert!(
            matches!(
                error,
                LoadError::Damaged { .. } | LoadError::NotAHandler { .. }
            ),
            "{at}: {error}"
        );
    }
    let mut flipped = whole.clone();
    for byte in flipped.iter_mut().skip(2000).step_by(97) {
        *byte ^= 0x55;
    }
    let error = refused(&flipped);
    assert!(!error.to_string().is_empty());
}

#[test]
fn text_and_core_modules_are_refused_by_name() {
    assert!(matches!(refused(b"hello"), LoadError::NotWasm { .. }));
    assert!(matches!(refused(b"\0asm\x01\0\0\0"), LoadError::CoreModule));
}

#[test]
fn an_unknown_import_is_named() {
    let whole = std::fs::read(component("fixture-session")).unwrap();
    let (from, to) = (b"cloakroom:http/session@", b"someother:http/session@");
    let mut changed = whole.clone();
    let places: Vec<usize> = whole
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from)
        .map(|(at, _)| at)
        .collect();
    for at in places {
        changed[at..at + to.len()].copy_from_slice(to);
    }
    let error = refused(&changed);
    assert!(
        matches!(&error, LoadError::UnknownImports { imports } if imports[0].starts_with("someother:http/session")),
        "{error}"
    );
}

#[test]
fn a_guest_that_cannot_start_within_its_memory_is_refused_at_load() {
    let mut settings = settings("fixture-hello");
    settings.limits.memory_bytes_max = 64 << 10;
    let error = runtime().load(settings).unwrap_err();
    assert!(
        matches!(&error, LoadError::NotInstantiable { .. }) && error.to_string().contains("memory"),
        "{error}"
    );
}

#[test]
fn a_memory_limit_above_the_pools_is_refused() {
    let mut settings = settings("fixture-hello");
    settings.limits.memory_bytes_max = 1 << 40;
    assert!(matches!(
        runtime().load(settings),
        Err(LoadError::Settings { .. })
    ));
}

#[tokio::test]
async fn loading_works_on_a_thread_that_drives_a_runtime() {
    assert_eq!(text(&guest("fixture-hello"), "/").await, "hello\n");
}
