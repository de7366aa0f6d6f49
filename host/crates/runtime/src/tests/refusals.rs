//! Components that must be refused: each is refused with its reason, and the live version continues to serve.

use bytes::Bytes;

use super::versions::{deploy_request, deployer, deployment};
use super::*;
use crate::{ComponentSource, DeployError, DeployRequest};

const COUNTER: &str = "counter";

/// Assembles a component from this text.
fn assembled(text: &str) -> Bytes {
    wat::parse_str(text)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .into()
}

/// Returns a component that is a handler in every respect, apart from the content of its core module.
fn handler_with(module: &str) -> Bytes {
    assembled(&format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $response))
            (core module $module
                (func (export "handle") (param i32 i32))
                {module})
            (core instance $instance (instantiate $module))
            (func $handle (param "request" (own $request)) (param "response-out" (own $response))
                (canon lift (core func $instance "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    ))
}

/// Returns a component that exports an empty handler and has `imports`.
fn importing(imports: &str) -> Bytes {
    assembled(&format!(
        r#"(component {imports} (instance $none) (export "wasi:http/incoming-handler@0.2.0" (instance $none)))"#
    ))
}

fn exporting(name: &str) -> Bytes {
    assembled(&format!(
        r#"(component (instance $none) (export "{name}" (instance $none)))"#
    ))
}

fn counter() -> Vec<u8> {
    std::fs::read(component(COUNTER)).unwrap()
}

fn damaged_in_the_middle() -> Bytes {
    let mut bytes = counter();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xff);
    bytes.into()
}

/// For each case: a name, the bytes, and a text that the refusal must contain.
fn corpus() -> Vec<(&'static str, Bytes, &'static str)> {
    let cut = |bytes: usize| Bytes::from(counter()[..bytes].to_vec());
    let whole = counter().len();
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    vec![
        ("nothing", text(""), "an empty file"),
        (
            "a text",
            text("fn main() {}\n"),
            "a text file, not a WebAssembly component",
        ),
        (
            "a component as text",
            text("(component)"),
            "WebAssembly text",
        ),
        (
            "a program",
            Bytes::from_static(b"\x7fELF\x02\x01\x01"),
            "ELF",
        ),
        (
            "a gzip archive",
            Bytes::from_static(b"\x1f\x8b\x08\x00"),
            "a gzip archive",
        ),
        ("a zip archive", text("PK\x03\x04"), "a zip archive"),
        (
            "noise",
            Bytes::from_static(&[0xfe; 600]),
            "binary data of an unknown kind",
        ),
        (
            "a core module",
            assembled("(module)"),
            "a core WebAssembly module",
        ),
        (
            "a version to come",
            Bytes::from_static(b"\0asm\x63\0\x01\0"),
            "damaged or incomplete",
        ),
        ("a head without a body", cut(8), "without exports"),
        (
            "half of a component",
            cut(whole / 2),
            "damaged or incomplete",
        ),
        (
            "a component but for its last byte",
            cut(whole - 1),
            "damaged or incomplete",
        ),
        (
            "a component with a hole",
            damaged_in_the_middle(),
            "damaged or incomplete",
        ),
        (
            "an empty component",
            assembled("(component)"),
            "without exports",
        ),
        (
            "a command-line program",
            std::fs::read(component("fixture-command")).unwrap().into(),
            "a command-line program",
        ),
        (
            "a handler of an older wasi:http",
            exporting("wasi:http/incoming-handler@0.1.0"),
            "exports wasi:http/incoming-handler@0.1.0",
        ),
        (
            "another world",
            exporting("acme:batch/job@1.0.0"),
            "exports acme:batch/job@1.0.0",
        ),
        (
            "a handler without its function",
            importing(""),
            "does not fit this host",
        ),
        (
            "an import that nobody offers",
            importing(r#"(import "acme:db/query@1.0.0" (instance (export "run" (func))))"#),
            "imports acme:db/query@1.0.0, which this host does not offer",
        ),
        (
            "an interface of WASI that does not exist",
            importing(r#"(import "wasi:teleport/beam@0.2.0" (instance (export "up" (func))))"#),
            "wasi:teleport/beam",
        ),
        (
            "a session of a version to come",
            importing(
                r#"(import "cloakroom:http/session@9.0.0" (instance (export "get" (func))))"#,
            ),
            "cloakroom:http/session@9.0.0",
        ),
        (
            "a session call of another type",
            importing(
                r#"(import "cloakroom:http/session@0.1.0" (instance (export "get" (func (param "key" u32)))))"#,
            ),
            "built against an older cloakroom:http: build it again",
        ),
        (
            "a start that traps",
            handler_with("(func $start unreachable) (start $start)"),
            "cannot be made",
        ),
        (
            "a start that never ends",
            handler_with("(func $start (loop (br 0))) (start $start)"),
            "did not start within",
        ),
        (
            "a start that never stops calling itself",
            handler_with("(func $start call $start) (start $start)"),
            "cannot be made",
        ),
        (
            "data beyond its memory",
            handler_with(r#"(memory 1) (data (i32.const 70000) "x")"#),
            "cannot be made",
        ),
        (
            "more memory than its limit",
            handler_with("(memory 4000)"),
            "memory",
        ),
        (
            "a table of millions",
            handler_with("(table 5000000 funcref)"),
            "table",
        ),
        (
            "shared memory",
            handler_with("(memory 1 1 shared)"),
            "does not fit this host",
        ),
    ]
}

#[tokio::test]
async fn each_bad_component_is_refused_while_the_live_version_serves() {
    let deployment = deployment(|settings| settings.limits.deadline = Duration::from_millis(300));
    let deployer = deployer();
    let good = deploy_request(std::fs::read(component("fixture-hello")).unwrap().into());
    deployer.deploy(&deployment, good).await.unwrap();

    for (what, bytes, expected) in corpus() {
        let started_at = Instant::now();
        let refused = deployer.deploy(&deployment, deploy_request(bytes)).await;
        let Err(DeployError::Load(error)) = refused else {
            panic!("{what} got in: {refused:?}");
        };
        let error = error.to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert!(started_at.elapsed() < Duration::from_secs(5), "{what}");
        let live = deployment.take(|| 0).unwrap();
        assert_eq!(
            (live.version(), text(&live, "/").await),
            (1, "hello\n".to_owned())
        );
    }
}

#[tokio::test]
async fn missing_and_oversized_files_are_refused_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.wasm");
    let file = std::fs::File::create(&large).unwrap();
    file.set_len(200 << 20).unwrap();
    for (path, expected) in [
        (large, "has 209715200 bytes; a component may have 67108864"),
        (folder.path().to_owned(), "is not a file"),
        (folder.path().join("absent.wasm"), "cannot read"),
    ] {
        let deployment = deployment(|settings| settings.component = path);
        let from_file = DeployRequest {
            source: ComponentSource::File,
            ..deploy_request(Bytes::new())
        };
        let refused = deployer().deploy(&deployment, from_file).await.unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(deployment.live().is_none());
    }
}
