//! Tests of `[cookies]`: the secrets of the guests' own cookies.

use super::*;

#[test]
fn the_guests_cookies_have_the_sessions_secrets_unless_they_have_their_own() {
    let config = Read::of(GUEST).config();
    assert_eq!(config.cookies.secrets, None);
    let text = with_guest("[cookies]\nsecrets = [\"env:SECRET\"]");
    let config = Read::of(&text).config();
    let secrets = config.cookies.secrets.as_ref().unwrap();
    assert_eq!(secrets.obtain().unwrap(), [SECRET.as_bytes()]);
    assert!(!format!("{config:?}").contains(SECRET));
    assert_ne!(
        config.session.secrets, *secrets,
        "the session's stay its own"
    );

    let variables = [("CLOAKROOM_COOKIES_SECRETS", "env:OLD"), ("OLD", SECRET)];
    let config = Read::with(GUEST, CliOptions::default(), &variables).config();
    let secrets = config.cookies.secrets.unwrap();
    assert_eq!(secrets.obtain().unwrap(), [SECRET.as_bytes()]);
}

#[test]
fn the_cookie_secrets_are_checked_like_the_session_secrets() {
    let variables = [("SHORT", "hunter2"), ("SECRET", SECRET)];
    let faults = |keys: &str| {
        let text = with_guest(&format!("[cookies]\n{keys}"));
        Read::with(&text, CliOptions::default(), &variables)
            .faults()
            .concat()
    };
    let weak = faults("secrets = [\"env:SECRET\", \"env:SHORT\"]");
    assert!(
        weak.contains("cloakroom.toml:2: cookies.secrets[1]: has 7 bytes"),
        "{weak}"
    );
    assert!(weak.contains("allow_short_secrets") && !weak.contains("hunter2"));
    assert!(faults("secrets = []").contains("cookies.secrets: the list is empty"));
    assert!(faults("secrets = [\"hunter2\"]").contains("is a secret in clear text"));
    assert!(faults("secret = \"x\"").contains("cookies.secret: unknown key of [cookies]"));

    let text = with_guest("[cookies]\nallow_short_secrets = true\nsecrets = [\"env:SHORT\"]");
    let config = Read::with(&text, CliOptions::default(), &variables).config();
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].starts_with("cookies.secrets[0]: has 7 bytes"));
}

#[test]
fn the_cookie_secrets_may_change_at_a_reload() {
    let before = Read::of(GUEST).config();
    let after = Read::of(&with_guest("[cookies]\nsecrets = [\"env:SECRET\"]")).config();
    let changed = before.fixed_keys_changed(&after);
    assert_eq!(changed, [""; 0]);
}
