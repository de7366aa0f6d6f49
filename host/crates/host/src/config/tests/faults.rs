//! Invalid configurations and their faults. Each case is a file and, in order, the beginning of each fault and its remedy. This
//! file tests faults of the whole configuration. Faults of a section have separate files.

mod guests;
mod keys;
mod session;
mod store;

use super::{GUEST, Read, VARIABLES, with_guest};
use crate::config::{CliOptions, Config};

/// An expected fault: its line (if it has one) and key, a part of the problem, and a part of the remedy.
type Expected<'a> = (&'a str, &'a str, &'a str);

fn assert_faults(text: &str, expected: &[Expected<'_>]) {
    let faults = Read::of(text).faults();
    let all = faults.join("\n");
    assert_eq!(faults.len(), expected.len(), "of:\n{text}\nit says:\n{all}");
    for (fault, (place, problem, remedy)) in faults.iter().zip(expected) {
        let (first, second) = fault.split_once("\n    ").unwrap_or((fault, ""));
        let is_in_file = place.starts_with(|c: char| c.is_ascii_digit());
        let beginning = format!(
            "{}{place}: ",
            if is_in_file { "cloakroom.toml:" } else { "" }
        );
        assert!(first.starts_with(&beginning), "{beginning}\n{all}");
        assert!(first.contains(problem), "{problem}\n{all}");
        assert!(second.contains(remedy), "{remedy}\n{all}");
    }
}

/// Checks cases whose keys come before a guest and a route.
fn assert_each(cases: &[(&str, Expected<'_>)]) {
    for (keys, expected) in cases {
        assert_faults(&with_guest(keys), &[*expected]);
    }
}

#[test]
fn an_empty_file_lacks_a_guest_and_a_route() {
    assert_faults(
        "",
        &[
            (
                "guest",
                "missing: there is nothing to serve",
                "add [guest.NAME]",
            ),
            (
                "route",
                "missing: no request would reach a guest",
                "add [[route]]",
            ),
        ],
    );
}

#[test]
fn all_faults_come_at_once_in_the_order_of_the_file() {
    assert_faults(
        "lissten = 1\n[session]\nsecure = true\nresave = 3\n[store]\nurl = \"x\"\nexpiration = \"soon\"\n\
         [guest.a]\ncomponent = \"a.wasm\"\nsesion = \"write\"\n[[route]]\npath = \"/\"\nguest = \"nobody\"",
        &[
            ("1: lissten", "unknown key", "`listen`"),
            ("3: session.secure", "unknown key", "[session.cookie]"),
            ("4: session.resave", "expected a boolean", ""),
            ("6: store.url", "is not a store URL", ""),
            ("7: store.expiration", "is not a duration", ""),
            (
                "10: guest.a.sesion",
                "unknown key",
                "did you mean `session`?",
            ),
            ("13: route[0].guest", "there is no guest \"nobody\"", ""),
        ],
    );
}

#[test]
fn a_syntax_error_does_not_hide_faults_in_readable_keys() {
    let text = with_guest("listen = 3000\nx = = 1");
    let faults = Read::of(&text).faults();
    assert!(
        faults[0].starts_with("cloakroom.toml:1: listen: expected a string"),
        "{faults:?}"
    );
    assert!(
        faults[1].starts_with("cloakroom.toml:2: not TOML: "),
        "{faults:?}"
    );
}

#[test]
fn guests_without_faults_are_handed_on_to_be_loaded() {
    let text = format!("listen = 1\n[guest.bad]\ncomponent = \"no.wasm\"\n{GUEST}");
    let refused = Read::of(&text).result.unwrap_err();
    let names: Vec<_> = refused
        .guests
        .iter()
        .map(|guest| guest.name.as_str())
        .collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn a_missing_configuration_file_is_reported_with_a_remedy() {
    let named = CliOptions {
        file: Some("/no/such.toml".into()),
        ..CliOptions::default()
    };
    let refused = Config::load(&named, &VARIABLES).unwrap_err();
    assert!(
        refused.faults[0]
            .problem
            .starts_with("cannot read the configuration /no/such.toml: ")
    );
    let nothing = Config::load(&CliOptions::default(), &[]).unwrap_err();
    assert!(
        nothing.faults[0]
            .remedy
            .contains("cloakroom serve COMPONENT.wasm"),
        "{}",
        nothing.faults[0]
    );
}

#[test]
fn a_component_that_is_not_there_or_beside_guests_is_refused() {
    let cli = CliOptions {
        component: Some("/no/such.wasm".into()),
        ..CliOptions::default()
    };
    let alone = Config::load(&cli, &[]).unwrap_err();
    assert_eq!(alone.faults.len(), 1);
    assert!(
        alone.faults[0]
            .to_string()
            .starts_with("COMPONENT: cannot read /no/such.wasm: ")
    );
    let beside = Read::with(GUEST, cli, &VARIABLES).faults();
    assert!(
        beside[0].contains("the file has guests or routes of its own"),
        "{beside:?}"
    );
}
