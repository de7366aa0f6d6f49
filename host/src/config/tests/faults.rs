//! Bad configurations and what is said of them: each case is a file and, in order, the beginning of each fault and its remedy.

use super::{GUEST, Read, VARIABLES, with_guest};
use crate::config::{Config, Words};

/// One expected fault: line (where it has one) and key, a part of the problem, a part of the remedy.
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

/// Each case's keys stand before a guest and a route.
fn assert_each(cases: &[(&str, Expected<'_>)]) {
    for (keys, expected) in cases {
        assert_faults(&with_guest(keys), &[*expected]);
    }
}

#[test]
fn unknown_keys_are_sent_where_they_belong() {
    assert_each(&[
        (
            "lissten = \"x\"",
            (
                "1: lissten",
                "unknown key of the top level",
                "did you mean `listen`?",
            ),
        ),
        (
            "host = \"x\"",
            ("1: host", "unknown key", "write it into `listen`"),
        ),
        (
            "resave = true",
            (
                "1: resave",
                "unknown key",
                "it belongs under [session]: write `resave = ...` there",
            ),
        ),
        (
            "[session]\nsecure = true",
            (
                "2: session.secure",
                "unknown key of [session]",
                "it belongs under [session.cookie]: write `cookie = { secure = ... }`",
            ),
        ),
        (
            "[session]\nmaxAge = 1",
            (
                "2: session.maxAge",
                "",
                "it belongs under [session.cookie]: write `cookie = { max_age = ... }`",
            ),
        ),
        (
            "[session]\nhttpOnly = true",
            ("2: session.httpOnly", "", "[session.cookie]"),
        ),
        (
            "[session]\nsame_site = \"lax\"",
            ("2: session.same_site", "", "[session.cookie]"),
        ),
        (
            "[session]\npath = \"/\"",
            ("2: session.path", "", "[session.cookie]"),
        ),
        (
            "[session]\ndomain = \"x\"",
            ("2: session.domain", "", "[session.cookie]"),
        ),
        (
            "[session]\nsaveUninitialized = true",
            (
                "2: session.saveUninitialized",
                "",
                "write `save_uninitialized`",
            ),
        ),
        (
            "[session]\nsecret = \"x\"",
            ("2: session.secret", "", "write `secrets = [\"env:NAME\"]`"),
        ),
        (
            "[session.cookie]\nrolling = true",
            (
                "2: session.cookie.rolling",
                "",
                "it belongs under [session]",
            ),
        ),
        (
            "[store]\ncheckExpirationInterval = 1",
            (
                "2: store.checkExpirationInterval",
                "",
                "write `check_expiration_interval`",
            ),
        ),
        (
            "[store]\ntableName = \"x\"",
            (
                "2: store.tableName",
                "",
                "it belongs under [store.schema]: write `schema = { table_name = ... }`",
            ),
        ),
        (
            "[store]\nendConnectionOnClose = true",
            ("2: store.endConnectionOnClose", "", "leave it out"),
        ),
        ("[store]\nssl = true", ("2: store.ssl", "", "write `tls`")),
        (
            "[store]\nxyzzy = true",
            (
                "2: store.xyzzy",
                "",
                "its keys are acquire_timeout, alter_table",
            ),
        ),
        (
            "[guest.b]\ncomponent = \"a.wasm\"\nmemory = 1",
            (
                "3: guest.b.memory",
                "",
                "it belongs under [guest.NAME.limits]: write `limits = { memory = ... }`",
            ),
        ),
    ]);
}

#[test]
fn wrong_types_are_told_with_what_to_write() {
    assert_each(&[
        (
            "listen = 3000",
            (
                "1: listen",
                "expected a string, found an integer",
                "\"127.0.0.1:3000\"",
            ),
        ),
        (
            "session = 1",
            (
                "1: session",
                "expected a table, found an integer",
                "write [session]",
            ),
        ),
        (
            "[session]\nresave = \"true\"",
            (
                "2: session.resave",
                "expected a boolean, found a string",
                "write true without quotes",
            ),
        ),
        (
            "[session]\nresave = 1",
            (
                "2: session.resave",
                "expected a boolean, found an integer",
                "write true or false",
            ),
        ),
        (
            "[session]\ntrusted_proxies = \"10.0.0.0/8\"",
            (
                "2: session.trusted_proxies",
                "expected a list of strings",
                "write [\"10.0.0.0/8\"]",
            ),
        ),
        (
            "[session]\nsecrets = \"env:SECRET\"",
            (
                "2: session.secrets",
                "expected a list, found a string",
                "[\"env:NAME\"]",
            ),
        ),
        (
            "[session.cookie]\nmax_age = true",
            (
                "2: session.cookie.max_age",
                "expected a duration, found a boolean",
                "\"24h\"",
            ),
        ),
        (
            "[store]\nport = \"3306\"\nuser = \"u\"\ndatabase = \"d\"\n[session]\nsecrets = [\"env:SECRET\"]",
            ("2: store.port", "expected an integer", "1 to 65535"),
        ),
        (
            "[server]\nconnections = 0",
            ("2: server.connections", "0 is out of range", "write 1 to"),
        ),
        (
            "[log]\nformat = \"xml\"",
            (
                "2: log.format",
                "\"xml\" is none of its values",
                "write \"text\" or \"json\"",
            ),
        ),
        (
            "[log]\nlevel = \"cloakroom=loud\"",
            ("2: log.level", "log filter", "info,guest=debug"),
        ),
    ]);
}

#[test]
fn bad_values_of_the_session_are_refused_at_start() {
    assert_each(&[
        (
            "[session]\nname = \"a b\"",
            ("2: session.name", "\"a b\" is no cookie name", "RFC 6265"),
        ),
        (
            "[session]\ncompat = \"express\"",
            ("2: session.compat", "none of its values", "\"express-1\""),
        ),
        (
            "[session]\nunset = \"drop\"",
            (
                "2: session.unset",
                "none of its values",
                "\"keep\" or \"destroy\"",
            ),
        ),
        (
            "[session]\nproxy = true",
            (
                "2: session.proxy",
                "believe X-Forwarded-Proto from anybody",
                "trusted_proxies = [\"10.0.0.0/8\"]",
            ),
        ),
        (
            "[session]\nproxy = false\ntrusted_proxies = [\"::1\"]",
            (
                "3: session.trusted_proxies",
                "no proxy is believed",
                "leave out one",
            ),
        ),
        (
            "[session]\ntrusted_proxies = [\"::1\", \"proxy\"]",
            (
                "2: session.trusted_proxies[1]",
                "\"proxy\" is no network",
                "10.0.0.0/8",
            ),
        ),
        (
            "[session]\nabsolute_lifetime = \"0s\"",
            ("2: session.absolute_lifetime", "no time at all", ""),
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
            ("2: session.cookie.max_age", "0 is no time at all", ""),
        ),
        (
            "[session.cookie]\nmax_age = -1",
            ("2: session.cookie.max_age", "-1 is negative", ""),
        ),
        (
            "[session.cookie]\nsame_site = \"sometimes\"",
            (
                "2: session.cookie.same_site",
                "\"sometimes\" is none",
                "\"lax\"",
            ),
        ),
        (
            "[session.cookie]\nsecure = \"yes\"",
            (
                "2: session.cookie.secure",
                "\"yes\" is none",
                "true, false or \"auto\"",
            ),
        ),
        (
            "[session.cookie]\npriority = \"urgent\"",
            (
                "2: session.cookie.priority",
                "\"urgent\" is none",
                "\"low\" or \"medium\" or \"high\"",
            ),
        ),
        (
            "[session.cookie]\ndomain = \"https://x.example\"",
            (
                "2: session.cookie.domain",
                "is no cookie domain",
                "without scheme",
            ),
        ),
        (
            "[session.cookie]\npath = \"shop\"",
            (
                "2: session.cookie.path",
                "is no cookie path",
                "starts with a slash",
            ),
        ),
        (
            "[session.cookie]\npath = \"/;x\"",
            ("2: session.cookie.path", "is no cookie path", ""),
        ),
        (
            "[session.cookie]\nexpires = 2030-01-31",
            (
                "2: session.cookie.expires",
                "is no moment in UTC",
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
fn a_prefix_of_the_cookies_name_is_held_to_its_promises() {
    assert_faults(
        &with_guest(
            "[session]\nname = \"__Host-id\"\n[session.cookie]\npath = \"/shop\"\ndomain = \"x.example\"",
        ),
        &[
            (
                "3: session.cookie.secure",
                "its name's prefix promises otherwise",
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
fn secrets_are_strong_and_stand_elsewhere() {
    let faults = |text: &str, variables: [(&str, &str); 2]| {
        let faults = Read::with(&with_guest(text), Words::default(), &variables).faults();
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
                "is a secret in clear",
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

#[test]
fn bad_stores_are_told_without_their_password() {
    let secrets = "[session]\nsecrets = [\"env:SECRET\"]\n[store]\n";
    let cases: [(&str, Expected<'_>); 14] = [
        (
            "url = \"sessions.db\"",
            ("4: store.url", "is no store URL", "sqlite:PATH"),
        ),
        (
            "url = \"redis://app:tops3cret@h\"",
            ("4: store.url", "its scheme is none", ""),
        ),
        (
            "url = \"mysql://app:tops3cret@db/app\"",
            (
                "4: store.url",
                "holds a password in clear",
                "password = \"env:NAME\"",
            ),
        ),
        (
            "url = \"mysql://app@db/app\"\nhost = \"db2\"",
            ("5: store.host", "given twice", "leave out one"),
        ),
        (
            "url = \"memory:\"\ndatabase = \"x\"",
            ("5: store.database", "given twice", ""),
        ),
        (
            "host = \"db\"\nuser = \"app\"",
            ("3: store.database", "missing", "write database"),
        ),
        (
            "user = \"u\"\ndatabase = \"d\"\nsocket = \"s\"\nport = 1",
            ("7: store.port", "a socket has neither", ""),
        ),
        (
            "user = \"u\"\ndatabase = \"d\"\nhost = [\"db:x\"]",
            ("6: store.host", "a port is no number", ""),
        ),
        (
            "url = \"mysql://app@db/app\"\npassword = \"tops3cret\"",
            ("5: store.password", "is a secret in clear", "\"env:NAME\""),
        ),
        (
            "url = \"mysql://app@db/app\"\nca_file = \"no.pem\"",
            (
                "5: store.ca_file",
                "cannot read",
                "folder of the configuration file",
            ),
        ),
        (
            "url = \"mysql://app@db/app\"\ntls = \"maybe\"",
            (
                "5: store.tls",
                "\"maybe\" is none",
                "true, false or \"auto\"",
            ),
        ),
        (
            "schema = { table_name = \"a`b\" }",
            (
                "4: store.schema.table_name",
                "is no table or column name",
                "",
            ),
        ),
        (
            "schema = { column_names = { data = \"expires\" } }",
            (
                "4: store.schema.column_names.data",
                "two columns have one name",
                "",
            ),
        ),
        (
            "expiration = \"soon\"",
            (
                "4: store.expiration",
                "\"soon\" is not a duration",
                "\"30m\"",
            ),
        ),
    ];
    for (keys, expected) in cases {
        let text = with_guest(&format!("{secrets}{keys}"));
        assert_faults(&text, &[expected]);
        assert!(
            !Read::of(&text).faults().concat().contains("tops3cret"),
            "{keys}"
        );
    }
}

#[test]
fn bad_guests_and_routes_are_named() {
    let guest = "[guest.a]\ncomponent = \"a.wasm\"\n";
    let route = "[[route]]\npath = \"/{*rest}\"\nguest = \"a\"\n";
    let cases: [(String, Expected<'_>); 15] = [
        (
            guest.to_owned(),
            (
                "route",
                "missing: no request would reach a guest",
                "add [[route]]",
            ),
        ),
        (
            format!("{guest}{route}[[route]]\npath = \"/b\"\nguest = \"nobody\""),
            (
                "8: route[1].guest",
                "there is no guest \"nobody\"",
                "the guests are a; or add [guest.nobody]",
            ),
        ),
        (
            format!("{guest}{route}[[route]]\npath = \"/b\""),
            ("6: route[1].guest", "missing", "write guest = "),
        ),
        (
            format!("{guest}{route}[[route]]\nguest = \"a\""),
            ("6: route[1].path", "missing", "write path = "),
        ),
        (
            format!("{guest}{route}{route}"),
            (
                "7: route[1].path",
                "answers requests of \"/{*rest}\", the route of",
                "take one of them out",
            ),
        ),
        (
            format!("{guest}[[route]]\npath = \"/{{\"\nguest = \"a\""),
            ("4: route[0].path", "\"/{\" is no path", "/user/{id}"),
        ),
        (
            format!("{guest}{route}methods = [\"get\"]"),
            (
                "6: route[0].methods[0]",
                "\"get\" is no method",
                "write \"GET\"",
            ),
        ),
        (
            format!("{guest}[route]\npath = \"/\"\nguest = \"a\""),
            (
                "3: route",
                "expected a list of tables, found a table",
                "write [[route]] with two brackets",
            ),
        ),
        (
            format!("[guest]\na = \"a.wasm\"\n{route}"),
            (
                "2: guest.a",
                "expected a table, found a string",
                "write [guest.a]",
            ),
        ),
        (
            format!("[guest.a]\ncomponent = \"no.wasm\"\n{route}"),
            (
                "2: guest.a.component",
                "cannot read no.wasm",
                "name a file that exists",
            ),
        ),
        (
            format!("{guest}read_keys = [\"x\"]\n{route}"),
            (
                "3: guest.a.read_keys",
                "grants nothing",
                "set session = \"read\"",
            ),
        ),
        (
            format!("{guest}session = \"read\"\nwrite_keys = [\"x\"]\n{route}"),
            (
                "4: guest.a.write_keys",
                "grants nothing",
                "set session = \"write\"",
            ),
        ),
        (
            format!("{guest}session = \"write\"\nwrite_keys = [\"*x\"]\n{route}"),
            ("4: guest.a.write_keys[0]", "has a `*` before its end", ""),
        ),
        (
            format!("{guest}outbound_hosts = [\"https://x\"]\n{route}"),
            (
                "3: guest.a.outbound_hosts[0]",
                "is no host",
                "without scheme",
            ),
        ),
        (
            format!("{guest}environment = {{ T = \"env:NO\" }}\n{route}"),
            ("3: guest.a.environment.T", "variable NO is not set", ""),
        ),
    ];
    for (text, expected) in cases {
        assert_faults(&text, &[expected]);
    }
}

#[test]
fn an_empty_file_lacks_both() {
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
            ("6: store.url", "is no store URL", ""),
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
fn a_syntax_error_hides_nothing_that_could_be_read() {
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
fn a_file_that_is_not_there_is_told_with_what_to_do() {
    let named = Words {
        file: Some("/no/such.toml".into()),
        ..Words::default()
    };
    let refused = Config::load(&named, &VARIABLES).unwrap_err();
    assert!(
        refused.faults[0]
            .problem
            .starts_with("cannot read the configuration /no/such.toml: ")
    );
    let nothing = Config::load(&Words::default(), &[]).unwrap_err();
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
    let words = Words {
        component: Some("/no/such.wasm".into()),
        ..Words::default()
    };
    let alone = Config::load(&words, &[]).unwrap_err();
    assert_eq!(alone.faults.len(), 1);
    assert!(
        alone.faults[0]
            .to_string()
            .starts_with("COMPONENT: cannot read /no/such.wasm: ")
    );
    let beside = Read::with(GUEST, words, &VARIABLES).faults();
    assert!(
        beside[0].contains("the file has guests or routes of its own"),
        "{beside:?}"
    );
}
