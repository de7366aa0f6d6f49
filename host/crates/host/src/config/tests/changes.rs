//! Tests of the changes that a running host cannot apply.

use super::*;

/// Checks the keys that differ between two configurations and only take effect at the start. `old` and `new` are their first
/// lines.
#[track_caller]
fn check(old: &str, new: &str, keys: &[&str]) {
    let config = |keys: &str| Read::of(&format!("{keys}\n{GUEST}")).config();
    assert_eq!(config(old).fixed_keys_changed(&config(new)), keys);
}

#[test]
fn changed_keys_that_need_a_restart_are_named() {
    let cases = [
        ("listen = \"127.0.0.1:3001\"", "listen"),
        ("[server]\nconnections = 7", "server.connections"),
        ("[server]\ngrace = \"7s\"", "server.grace"),
        ("[server]\ninstances = 7", "server.instances"),
        ("[server]\nwatch = false", "server.watch"),
        ("[session]\nname = \"sid\"", "session.name"),
        ("[session]\nrolling = true", "session.rolling"),
        (
            "[session.cookie]\nmax_age = \"7s\"",
            "session.cookie.max_age",
        ),
        ("[session.limits]\nkeys = 7", "session.limits.keys"),
        ("[store]\nurl = \"memory:\"", "store.url"),
        ("[store]\nexpiration = \"7s\"", "store.expiration"),
        ("[log]\nlevel = \"debug\"", "log.level"),
        ("[admin]", "admin"),
    ];
    for (lines, key) in cases {
        check("", lines, &[key]);
        check(lines, "", &[key]);
    }
}

#[test]
fn every_key_that_differs_is_named() {
    check(
        "listen = \"127.0.0.1:3001\"\n[log]\nformat = \"json\"",
        "[server]\ngrace = \"7s\"\nwatch = false\n[store]\nclear_expired = false",
        &[
            "listen",
            "server.grace",
            "server.watch",
            "store.clear_expired",
            "log.format",
        ],
    );
}

#[test]
fn a_database_is_compared_key_by_key() {
    let store = |keys: &str| {
        format!(
            "[session]\nsecrets = [\"env:SECRET\"]\n[store]\nurl = \"mysql://app@db/app\"\n{keys}"
        )
    };
    for (keys, name) in [
        ("password = \"env:DB_PASSWORD\"", "store.password"),
        ("connection_limit = 7", "store.connection_limit"),
        ("tls = false", "store.tls"),
        ("tls = {}", "store.tls"),
        ("schema = { table_name = \"other\" }", "store.schema"),
    ] {
        check(&store(""), &store(keys), &[name]);
    }
}

#[test]
fn the_admin_interface_is_compared_key_by_key() {
    let admin = |keys: &str| format!("[admin]\n{keys}");
    check(
        &admin(""),
        &admin("listen = \"127.0.0.1:7\""),
        &["admin.listen"],
    );
    check(
        &admin(""),
        &admin("token = \"env:SECRET\""),
        &["admin.token"],
    );
}

#[test]
fn guests_routes_and_secrets_may_change() {
    let more = "[guest.b]\ncomponent = \"a.wasm\"\nsession = \"read\"\n\
                [[route]]\npath = \"/b\"\nguest = \"b\"\n";
    let old = Read::of(GUEST).config();
    let secrets = "[session]\nsecrets = [\"env:SECRET\"]\n";
    let new = Read::of(&format!("{secrets}{GUEST}{more}")).config();
    assert_ne!(old, new);
    assert_eq!(old.fixed_keys_changed(&new), [""; 0]);
}
