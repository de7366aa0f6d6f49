//! Unknown keys and values of the wrong type. The faults name the place where the key belongs, or the value to write.

use super::assert_each;

#[test]
fn unknown_keys_are_refused_with_their_right_section_or_spelling() {
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
fn values_of_a_wrong_type_are_refused_with_a_correct_example() {
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
                "\"xml\" is not one of its values",
                "write \"text\" or \"json\"",
            ),
        ),
        (
            "[log]\nlevel = \"cloakroom=loud\"",
            ("2: log.level", "log filter", "info,guest=debug"),
        ),
    ]);
}
