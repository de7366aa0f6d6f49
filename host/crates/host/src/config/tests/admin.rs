//! Tests of `[admin]`: when it is enabled, and its requirements.

use super::*;
use crate::admin::Token;

const TOKEN: &str = "a token of these tests, but random";

fn admin(keys: &str, cli: CliOptions, environment: &dyn Environment) -> Option<AdminOptions> {
    Read::with(&with_guest(keys), cli, environment)
        .config()
        .admin
}

fn token() -> String {
    TOKEN.replace([' ', ','], "-")
}

#[test]
fn the_admin_interface_is_on_only_if_it_is_configured() {
    let listen = |admin: Option<AdminOptions>| admin.map(|admin| admin.listen.to_string());
    let of_flag = || CliOptions {
        admin: Some("127.0.0.1:4001".to_owned()),
        ..CliOptions::default()
    };
    let no_options = CliOptions::default;
    let cases = [
        (listen(admin("", no_options(), &VARIABLES)), None),
        (
            listen(admin(
                "",
                no_options(),
                &[("CLOAKROOM_ADMIN_TOKEN", token().as_str())],
            )),
            None,
        ),
        (
            listen(admin("[admin]", no_options(), &VARIABLES)),
            Some("127.0.0.1:3001"),
        ),
        (
            listen(admin(
                "[admin]\nlisten = \"[::1]:9\"",
                no_options(),
                &VARIABLES,
            )),
            Some("[::1]:9"),
        ),
        (
            listen(admin("", of_flag(), &VARIABLES)),
            Some("127.0.0.1:4001"),
        ),
        (
            listen(admin(
                "[admin]\nlisten = \"[::1]:9\"",
                of_flag(),
                &VARIABLES,
            )),
            Some("127.0.0.1:4001"),
        ),
        (
            listen(admin(
                "",
                no_options(),
                &[("CLOAKROOM_ADMIN_LISTEN", "localhost:5001")],
            )),
            Some("127.0.0.1:5001"),
        ),
    ];
    for (read, expected) in cases {
        assert_eq!(read.as_deref(), expected);
    }
}

#[test]
fn an_admin_address_beyond_loopback_requires_a_strong_token() {
    let long = token();
    let variables = [
        ("TOKEN", long.as_str()),
        ("SHORT", "tiny"),
        ("SPACED", TOKEN),
    ];
    let faults =
        |keys: &str| Read::with(&with_guest(keys), CliOptions::default(), &variables).faults();
    for (keys, problem) in [
        ("[admin]\nlisten = \"0.0.0.0:3001\"", "admin.token: missing"),
        (
            "[admin]\nlisten = \"10.0.0.1:3001\"",
            "admin.token: missing",
        ),
        ("[admin]\ntoken = \"env:SHORT\"", "admin.token: has 4 bytes"),
        (
            "[admin]\ntoken = \"env:SPACED\"",
            "admin.token: contains a character",
        ),
        (
            "[admin]\ntoken = \"in clear\"",
            "admin.token: is a secret in clear text",
        ),
        (
            "[admin]\ntoken = \"env:NONE\"",
            "admin.token: the environment",
        ),
    ] {
        let faults = faults(keys);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(problem), "{}", faults[0]);
        assert!(faults[0].contains("env:NAME") || problem.contains("environment"));
        assert!(!faults[0].contains("tiny") && !faults[0].contains(TOKEN));
    }
    let keys = "[admin]\nlisten = \"0.0.0.0:3001\"\ntoken = \"env:TOKEN\"";
    let settings = admin(keys, CliOptions::default(), &variables).unwrap();
    assert_eq!(settings.token, Some(Token::new(&long)));
    assert!(!format!("{settings:?}").contains(&long));
}

#[test]
fn two_listeners_have_two_addresses() {
    let cases = [
        ("127.0.0.1:3001", "127.0.0.1:3001", true),
        ("0.0.0.0:3001", "127.0.0.1:3001", true),
        ("127.0.0.1:3001", "[::]:3001", true),
        ("[::]:3001", "[::1]:3001", true),
        ("127.0.0.1:3001", "[::1]:3001", false),
        ("0.0.0.0:3001", "[::1]:3001", false),
        ("127.0.0.1:3001", "127.0.0.1:3002", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ];
    let token = token();
    for (visitors, admin, is_refused) in cases {
        let keys = format!(
            "listen = \"{visitors}\"\n[admin]\nlisten = \"{admin}\"\ntoken = \"env:TOKEN\""
        );
        let variables = [("TOKEN", token.as_str())];
        let read = Read::with(&with_guest(&keys), CliOptions::default(), &variables);
        if is_refused {
            let faults = read.faults();
            assert!(faults[0].contains("admin.listen"), "{faults:?}");
            assert!(faults[0].contains("is taken by"), "{faults:?}");
        } else {
            read.config();
        }
    }
}
