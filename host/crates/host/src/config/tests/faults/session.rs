//! Faults of `[session]`: options, the cookie and secrets.

use super::{assert_each, assert_faults};
use crate::config::CliOptions;
use crate::config::tests::{Read, with_guest};

#[test]
fn a_cookie_that_could_not_be_sent_whole_is_refused() {
    let long = |key: &str, length: usize| {
        let text = "a".repeat(length);
        format!("{key} = \"{text}\"")
    };
    let cases = [
        (
            format!("[session]\n{}", long("name", 257)),
            (
                "2: session.name",
                "is not a valid cookie name",
                "at most 256",
            ),
        ),
        (
            format!(
                "[session.cookie]\n{}",
                long("path", 1024).replace("\"a", "\"/a")
            ),
            (
                "2: session.cookie.path",
                "is not a valid cookie path",
                "at most 1,024",
            ),
        ),
        (
            format!("[session.cookie]\n{}", long("domain", 64)),
            (
                "2: session.cookie.domain",
                "is not a valid cookie domain",
                "host name",
            ),
        ),
    ];
    for (keys, expected) in cases {
        assert_each(&[(&keys, expected)]);
    }
}

#[test]
fn bad_values_of_the_session_are_refused_at_start() {
    assert_each(&[
        (
            "[session]\nname = \"a b\"",
            (
                "2: session.name",
                "\"a b\" is not a valid cookie name",
                "RFC 6265",
            ),
        ),
        (
            "[session]\ncompat = \"express\"",
            (
                "2: session.compat",
                "not one of its values",
                "\"express-1\"",
            ),
        ),
        (
            "[session]\nunset = \"drop\"",
            (
                "2: session.unset",
                "not one of its values",
                "\"keep\" or \"destroy\"",
            ),
        ),
        (
            "[session]\nproxy = true",
            (
                "2: session.proxy",
                "trust X-Forwarded-Proto from every client",
                "trusted_proxies = [\"10.0.0.0/8\"]",
            ),
        ),
        (
            "[session]\nproxy = true\ntrusted_proxies = []",
            (
                "2: session.proxy",
                "trust X-Forwarded-Proto from every client",
                "trusted_proxies = [\"10.0.0.0/8\"]",
            ),
        ),
        (
            "[session]\nproxy = false\ntrusted_proxies = [\"::1\"]",
            (
                "3: session.trusted_proxies",
                "no proxy is trusted",
                "leave out one",
            ),
        ),
        (
            "[session]\ntrusted_proxies = [\"::1\", \"proxy\"]",
            (
                "2: session.trusted_proxies[1]",
                "\"proxy\" is not a network",
                "10.0.0.0/8",
            ),
        ),
        (
            "[session]\nabsolute_lifetime = \"0s\"",
            ("2: session.absolute_lifetime", "less than 1 ms", ""),
        ),
        (
            "[session.cookie]\nmax_age = \"86400000\"",
            (
                "2: session.cookie.max_age",
                "has no unit: write milliseconds without quotes",
                "\"24h\"",
            ),
        ),
        (
            "[session.cookie]\nmax_age = 0",
            ("2: session.cookie.max_age", "0 is less than 1 ms", ""),
        ),
        (
            "[session.cookie]\nmax_age = -1",
            ("2: session.cookie.max_age", "-1 is negative", ""),
        ),
        (
            "[session.cookie]\nsame_site = \"sometimes\"",
            (
                "2: session.cookie.same_site",
                "\"sometimes\" is not one of its values",
                "\"lax\"",
            ),
        ),
        (
            "[session.cookie]\nsecure = \"yes\"",
            (
                "2: session.cookie.secure",
                "\"yes\" is not one of its values",
                "true, false or \"auto\"",
            ),
        ),
        (
            "[session.cookie]\npriority = \"urgent\"",
            (
                "2: session.cookie.priority",
                "\"urgent\" is not one of its values",
                "\"low\" or \"medium\" or \"high\"",
            ),
        ),
        (
            "[session.cookie]\ndomain = \"https://x.example\"",
            (
                "2: session.cookie.domain",
                "is not a valid cookie domain",
                "without scheme",
            ),
        ),
        (
            "[session.cookie]\npath = \"shop\"",
            (
                "2: session.cookie.path",
                "is not a valid cookie path",
                "starts with a slash",
            ),
        ),
        (
            "[session.cookie]\npath = \"/;x\"",
            ("2: session.cookie.path", "is not a valid cookie path", ""),
        ),
        (
            "[session.cookie]\nexpires = 2030-01-31",
            (
                "2: session.cookie.expires",
                "is not a date and time in UTC",
                "2027-01-31T00:00:00Z",
            ),
        ),
        (
            "[session.cookie]\nmax_age = \"1h\"\nexpires = 2030-01-31T00:00:00Z",
            ("3: session.cookie.expires", "both given", "leave out one"),
        ),
        (
            "[session.cookie]\npartitioned = true",
            (
                "2: session.cookie.partitioned",
                "browsers drop",
                "set secure = true",
            ),
        ),
        (
            "[session.cookie]\nsame_site = \"none\"\nsecure = false",
            (
                "2: session.cookie.same_site",
                "SameSite=None",
                "set secure = true",
            ),
        ),
        (
            "[session.limits]\nsession = \"1GiB\"",
            ("2: session.limits.session", "out of range", ""),
        ),
    ]);
}

#[test]
fn the_requirements_of_a_cookie_name_prefix_are_enforced() {
    assert_faults(
        &with_guest(
            "[session]\nname = \"__Host-id\"\n[session.cookie]\npath = \"/shop\"\ndomain = \"x.example\"",
        ),
        &[
            (
                "3: session.cookie.secure",
                "the prefix of its name requires otherwise",
                "set secure = true",
            ),
            ("4: session.cookie.path", "prefix", "set path = \"/\""),
            ("5: session.cookie.domain", "prefix", "leave domain out"),
        ],
    );
    assert_each(&[
        (
            "[session]\nname = \"__secure-id\"\ncookie = {}",
            ("3: session.cookie.secure", "prefix", "set secure = true"),
        ),
        (
            "[session]\nname = \"__Http-id\"\ncookie = { secure = true, http_only = false }",
            ("3: session.cookie.http_only", "prefix", ""),
        ),
    ]);
}

#[test]
fn weak_secrets_and_secrets_in_clear_text_are_refused() {
    let faults = |text: &str, variables: [(&str, &str); 2]| {
        let faults = Read::with(&with_guest(text), CliOptions::default(), &variables).faults();
        let all = faults.join("\n");
        for (_, secret) in variables {
            assert!(!all.contains(secret), "the secret is shown: {all}");
        }
        faults
    };
    let two = "[session]\nsecrets = [\"env:A\", \"env:B\"]";
    let known = faults(two, [("A", "Keyboard Cat"), ("B", "not32bytes")]);
    assert_eq!(known.len(), 2, "{known:?}");
    assert!(
        known[0].starts_with("cloakroom.toml:2: session.secrets[0]: is a known default"),
        "{known:?}"
    );
    assert!(
        known[1].starts_with(
            "cloakroom.toml:2: session.secrets[1]: has 10 bytes; a secret has at least 32"
        ),
        "{known:?}"
    );
    assert!(known[1].contains("allow_short_secrets = true"), "{known:?}");
    let regular = faults(
        two,
        [
            ("A", &"a-b-".repeat(10)),
            ("B", "b0123456789-b0123456789-b0123456789"),
        ],
    );
    assert_eq!(regular.len(), 1, "{regular:?}");
    assert!(
        regular[0].contains("session.secrets[0]: repeats itself"),
        "{regular:?}"
    );
    assert_each(&[
        (
            "[session]\nsecrets = [\"tops3cret\"]",
            (
                "2: session.secrets[0]",
                "is a secret in clear text",
                "\"env:NAME\"",
            ),
        ),
        (
            "[session]\nsecrets = [\"env:NO\"]",
            ("2: session.secrets[0]", "variable NO is not set", "set NO"),
        ),
        (
            "[session]\nsecrets = [\"file:no\"]",
            ("2: session.secrets[0]", "cannot read", ""),
        ),
        (
            "[session]\nsecrets = [1]",
            ("2: session.secrets[0]", "expected strings", ""),
        ),
        (
            "[session]\nsecrets = []",
            (
                "2: session.secrets",
                "the list is empty",
                "leave the key out",
            ),
        ),
        (
            "[store]\nurl = \"mysql://app@db/app\"\n[session]",
            ("3: session.secrets", "missing: all hosts", "openssl rand"),
        ),
    ]);
}
