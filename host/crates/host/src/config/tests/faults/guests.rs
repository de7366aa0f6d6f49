//! Faults of guests and routes.

use super::{Expected, assert_faults};

#[test]
fn bad_guests_and_routes_are_named() {
    let guest = "[guest.a]\ncomponent = \"a.wasm\"\n";
    let route = "[[route]]\npath = \"/{*rest}\"\nguest = \"a\"\n";
    let cases: [(String, Expected<'_>); 27] = [
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
            (
                "4: route[0].path",
                "\"/{\" is not a valid path",
                "/user/{id}",
            ),
        ),
        (
            format!("{guest}{route}methods = [\"get\"]"),
            (
                "6: route[0].methods[0]",
                "\"get\" is not a valid method",
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
            format!("{guest}reuse = 0\n{route}"),
            (
                "3: guest.a.reuse",
                "0 is out of range",
                "write 1 to 1000000",
            ),
        ),
        (
            format!("{guest}reuse = \"often\"\n{route}"),
            (
                "3: guest.a.reuse",
                "expected an integer, found a string",
                "write an integer from 1 to 1000000",
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
            format!("{guest}session = \"read\"\nread_keys = []\n{route}"),
            (
                "4: guest.a.read_keys",
                "the list is empty",
                "leave the key out",
            ),
        ),
        (
            format!("{guest}session = \"write\"\nwrite_keys = []\n{route}"),
            (
                "4: guest.a.write_keys",
                "the list is empty",
                "leave the key out",
            ),
        ),
        (
            format!("{guest}{route}\nmethods = []"),
            (
                "7: route[0].methods",
                "the list is empty",
                "leave the key out",
            ),
        ),
        (
            format!("{guest}outbound_hosts = [\"https://x\"]\n{route}"),
            (
                "3: guest.a.outbound_hosts[0]",
                "is not a valid host",
                "without scheme",
            ),
        ),
        (
            format!("{guest}outbound_hosts = \"x\"\n{route}"),
            ("3: guest.a.outbound_hosts", "expected a list", "write ["),
        ),
        (
            format!("{guest}outbound_hosts = [\"u:p@x\"]\n{route}"),
            ("3: guest.a.outbound_hosts[0]", "is not a valid host", ""),
        ),
        (
            format!("{guest}outbound_hosts = [\"x\", \"x:0\"]\n{route}"),
            ("3: guest.a.outbound_hosts[1]", "is not a valid host", ""),
        ),
        (
            format!("{guest}outbound_hosts = [{{ host = \"x/y\" }}]\n{route}"),
            (
                "3: guest.a.outbound_hosts[0].host",
                "is not a valid host",
                "without scheme",
            ),
        ),
        (
            format!("{guest}outbound_hosts = [{{ private = true }}]\n{route}"),
            (
                "3: guest.a.outbound_hosts[0].host",
                "missing",
                "write { host = ",
            ),
        ),
        (
            format!("{guest}outbound_hosts = [{{ host = \"x\", private = \"true\" }}]\n{route}"),
            (
                "3: guest.a.outbound_hosts[0].private",
                "expected a boolean",
                "write true without quotes",
            ),
        ),
        (
            format!("{guest}outbound_hosts = [{{ host = \"x\", privat = true }}]\n{route}"),
            (
                "3: guest.a.outbound_hosts[0].privat",
                "unknown key; its keys are host, private",
                "",
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
