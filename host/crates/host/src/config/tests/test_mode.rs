//! Tests of a configuration that is read to test its guests.

use super::*;

fn in_test_mode(text: &str, environment: &dyn Environment) -> Read {
    let cli = CliOptions {
        mode: ConfigMode::Test,
        ..CliOptions::default()
    };
    Read::with(text, cli, environment)
}

#[test]
fn neither_a_database_nor_a_secret_needs_to_be_there() {
    let text = with_guest(
        "
        [session]
        secrets = [\"env:NOT_SET\", \"file:/not/there\"]
        [store]
        url = \"mysql://app@db1/app\"
        password = \"env:NOT_SET\"
        ca_file = \"not-there.pem\"
        expiration = \"1h\"
        [admin]
        token = \"env:NOT_SET\"",
    );
    let config = in_test_mode(&text, &[]).config();
    assert_eq!(config.store.backend.location(), StoreLocation::Memory);
    assert_eq!(config.store.expiration, Duration::from_secs(3600));
    assert_eq!(config.warnings, [] as [&str; 0]);
}

#[test]
fn a_secret_that_is_there_is_not_used() {
    let text = with_guest("[session]\nsecrets = [\"env:SECRET\"]");
    let environment = [("CLOAKROOM_STORE_HOST", "db1"), VARIABLES[0]];
    for environment in [
        environment,
        [("CLOAKROOM_SESSION_SECRETS", "short"), VARIABLES[0]],
    ] {
        let SecretSource::Given(secrets) =
            in_test_mode(&text, &environment).config().session.secrets
        else {
            panic!("another secret stands in");
        };
        assert_eq!(secrets.len(), 1);
        assert_ne!(secrets[0], SECRET.as_bytes());
        assert!(secrets[0].len() >= 32);
    }
}

#[test]
fn a_guest_variable_with_a_missing_reference_is_omitted_with_a_warning() {
    let text = "[guest.a]\ncomponent = \"a.wasm\"\n[[route]]\npath = \"/\"\nguest = \"a\"\n\
                [guest.a.environment]\nPLAIN = \"x\"\nKNOWN = \"env:DB_PASSWORD\"\nTOKEN = \"env:NOT_SET\"";
    let config = in_test_mode(text, &VARIABLES).config();
    let environment = &config.guests[0].environment;
    let names: Vec<_> = environment.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["KNOWN", "PLAIN"]);
    assert_eq!(
        config.warnings,
        ["the guest's variable TOKEN is left out: the environment variable NOT_SET is not set"]
    );
}

#[test]
fn invalid_secret_references_and_store_urls_are_faults_in_a_rehearsal_too() {
    let text = with_guest("[session]\nsecrets = [\"in clear\"]\n[store]\nurl = \"redis://x\"");
    let faults = in_test_mode(&text, &[]).faults().join("\n");
    assert!(faults.contains("is a secret in clear text"), "{faults}");
    assert!(faults.contains("store.url"), "{faults}");
}
