//! Components that were built against another state of the package `cloakroom:http` than this host's.

use super::*;

const OUTDATED: &str = include_str!("outdated.wat");
const REMEDY: &str = "built against an older cloakroom:http: build it again";

fn fit(text: &str) -> Result<(), LoadError> {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    runtime().fit(&bytes)
}

/// A component with one import, which is a handler only by name.
fn importing(name: &str, exports: &str) -> String {
    format!(
        r#"(component (import "{name}" (instance {exports})) (instance $none)
            (export "wasi:http/handler@0.3.0" (instance $none)))"#
    )
}

#[test]
fn an_outdated_component_is_refused_with_the_advice_to_rebuild() {
    let in_02 = OUTDATED.to_owned();
    let in_03 = OUTDATED.replace("incoming-handler@0.2.10", "handler@0.3.0");
    for text in [in_02, in_03] {
        let error = fit(&text).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(REMEDY), "{message}");
        // The types of `cookies` have new names and are the same: no call of it would fail.
        let LoadError::Outdated { imports } = error else {
            panic!("{message}");
        };
        assert_eq!(imports, ["cloakroom:http/session@0.1.0"], "{message}");
    }
}

#[test]
fn an_older_component_is_refused_when_it_is_loaded() {
    let bytes = wat::parse_str(OUTDATED).unwrap();
    let error = runtime()
        .load_bytes(settings("fixture-hello"), &bytes)
        .unwrap_err();
    assert!(matches!(error, LoadError::Outdated { .. }), "{error}");
}

#[test]
fn each_interface_is_named_that_has_other_types() {
    let serialize = r#"(export "serialize" (func (param "name" string) (result string)))"#;
    let error = fit(&importing("cloakroom:http/cookies@0.1.0", serialize)).unwrap_err();
    assert!(
        matches!(&error, LoadError::Outdated { imports } if imports == &["cloakroom:http/cookies@0.1.0"]),
        "{error}"
    );
}

#[test]
fn components_with_newer_interfaces_are_not_reported_as_outdated() {
    let later = r#"(export "rename" (func (param "to" string)))"#;
    for (name, exports) in [
        ("cloakroom:http/session@0.1.0", later),
        ("cloakroom:http/session@0.1.7", later),
        (
            "cloakroom:http/session@9.0.0",
            r#"(export "get" (func (param "key" u32)))"#,
        ),
        (
            "wasi:random/random@0.2.0",
            r#"(export "get-random-u64" (func (result u32)))"#,
        ),
    ] {
        let error = fit(&importing(name, exports)).unwrap_err();
        assert!(
            matches!(&error, LoadError::Unfit { reason, .. } if reason.contains(name)),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_function_whose_types_are_the_same_links_as_before() {
    let types = r#"
        (type $same-site-shape (enum "strict" "lax" "none"))
        (export "same-site" (type (eq $same-site-shape)))"#;
    let handler = importing("cloakroom:http/types@0.1.0", types);
    // All that is missing is the handler's function.
    let error = fit(&handler).unwrap_err().to_string();
    assert!(!error.contains("cloakroom:http"), "{error}");
}
