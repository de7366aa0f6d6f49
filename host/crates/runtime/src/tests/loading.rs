//! Files that can and cannot be loaded as guests.

use super::*;
use crate::GuestWorld;

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
        ("counter", GuestWorld::Wasi02, true),
        ("counter-service", GuestWorld::Wasi03, true),
        ("fixture-hello", GuestWorld::Wasi02, false),
        ("fixture-session", GuestWorld::Wasi02, true),
        ("fixture-session-service", GuestWorld::Wasi03, true),
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
fn a_command_line_component_is_refused_with_the_required_export() {
    let error = runtime().load(settings("fixture-command")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("command-line program") && text.contains("wasi:http/incoming-handler@0.2"),
        "{text}"
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
        matches!(&error, LoadError::MemoryTooSmall { needed, bytes_max: 65536 } if *needed > 65536),
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

/// Returns a component that exports the handler and has a core module whose start function runs `body`.
fn starting(body: &[u8]) -> Vec<u8> {
    // A module with one function type and one function, which is the start function.
    let mut module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x08\x01\0".to_vec();
    let length = |n: usize| u8::try_from(n).unwrap();
    module.extend([0x0a, length(body.len() + 3), 1, length(body.len() + 1), 0]);
    module.extend(body);
    let whole = std::fs::read(component("fixture-hello")).unwrap();
    // A core module section, and a section of core instances that instantiates it. They follow all other sections, so
    // the module's index is the number of the component's own modules (`core_modules`).
    let modules = core_modules(&whole);
    let mut bytes = whole;
    bytes.extend([1, length(module.len())]);
    bytes.extend(module);
    bytes.extend([2, 4, 1, 0, modules, 0]);
    bytes
}

/// Returns the number of core modules at the top level of a component.
fn core_modules(component: &[u8]) -> u8 {
    let (mut depth, mut modules) = (0_usize, 0);
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            wasmparser::Payload::ModuleSection { .. } => {
                modules += u8::from(depth == 0);
                depth += 1;
            }
            wasmparser::Payload::ComponentSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    modules
}

#[test]
fn a_start_function_that_traps_is_refused() {
    let error = refused(&starting(&[0x00, 0x0b]));
    assert!(
        matches!(&error, LoadError::NotInstantiable { reason, .. } if reason.contains("unreachable")),
        "{error}"
    );
}

#[test]
fn a_start_function_that_spins_is_refused_within_the_admission_deadline() {
    let spinning = starting(&[0x03, 0x40, 0x0c, 0x00, 0x0b, 0x0b]);
    let patient = |deadline| {
        let mut settings = settings("fixture-hello");
        settings.limits.deadline = deadline;
        let begun = Instant::now();
        let error = runtime().load_bytes(settings, &spinning).unwrap_err();
        assert!(
            matches!(&error, LoadError::NotInstantiable { reason, .. } if reason.contains("did not start")),
            "{error}"
        );
        begun.elapsed()
    };
    assert!(patient(Duration::from_millis(200)) < Duration::from_secs(4));
    let long = patient(Duration::from_secs(3600));
    assert!(long >= cloakroom_base::limits::DEPLOY_DEADLINE && long < Duration::from_secs(30));
}

#[test]
fn a_guest_has_the_digest_size_imports_and_exports_of_its_component() {
    let bytes = std::fs::read(component("counter")).unwrap();
    let guest = runtime().load_bytes(settings("counter"), &bytes).unwrap();
    assert_eq!(guest.component().digest, crate::ComponentDigest::of(&bytes));
    assert_eq!(guest.component().bytes, bytes.len() as u64);
    let has = |names: &[String], name| names.iter().any(|n| n.starts_with(name));
    assert!(has(&guest.component().imports, "cloakroom:http/session@"));
    assert!(has(
        &guest.component().exports,
        "wasi:http/incoming-handler@0.2"
    ));
}

#[test]
fn a_component_beyond_the_size_limit_is_refused_unparsed() {
    let bytes = vec![0; (64 << 20) + 1];
    let error = runtime()
        .load_bytes(settings("counter"), &bytes)
        .unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn cached_code_serves_like_compiled_code() {
    let folder = tempfile::tempdir().unwrap();
    let keeping = || {
        Runtime::new(&RuntimeOptions {
            instances_max: 4,
            code_cache: Some(folder.path().join("code")),
            ..RuntimeOptions::default()
        })
        .unwrap()
    };
    for name in ["fixture-hello", "counter-service"] {
        let compiled = keeping().load(settings(name)).unwrap();
        let cached = keeping().load(settings(name)).unwrap();
        assert_eq!(compiled.component(), cached.component());
        let [compiled, cached] = [compiled, cached].map(Arc::new);
        assert_eq!(text(&compiled, "/").await, text(&cached, "/").await);
    }
    let files = std::fs::read_dir(folder.path().join("code")).unwrap();
    assert_eq!(files.count(), 3, "the key and two files of code");
}

#[tokio::test]
async fn loading_works_on_a_thread_that_drives_a_runtime() {
    assert_eq!(text(&guest("fixture-hello"), "/").await, "hello\n");
}
