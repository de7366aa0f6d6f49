//! Faults of `[store]`. Their texts do not contain the password.

use super::{Expected, assert_faults};
use crate::config::tests::{Read, with_guest};

#[test]
fn invalid_stores_are_reported_without_their_password() {
    let secrets = "[session]\nsecrets = [\"env:SECRET\"]\n[store]\n";
    let cases: [(&str, Expected<'_>); 20] = [
        (
            "url = \"sessions.db\"",
            ("4: store.url", "is not a store URL", "sqlite:PATH"),
        ),
        (
            "url = \"redis://app:tops3cret@h\"",
            ("4: store.url", "its scheme is not memory", ""),
        ),
        (
            "url = \"mysql://app:tops3cret@db/app\"",
            (
                "4: store.url",
                "contains a password in clear text",
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
            ("6: store.host", "a port is not a number", ""),
        ),
        (
            "url = \"mysql://app@db/app\"\npassword = \"tops3cret\"",
            (
                "5: store.password",
                "is a secret in clear text",
                "\"env:NAME\"",
            ),
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
                "\"maybe\" is not one of its values",
                "true, false, \"auto\" or",
            ),
        ),
        (
            "url = \"mysql://app@db/app\"\ntls = { verify = \"none\" }",
            (
                "5: store.tls.verify",
                "\"none\" is not one of its values",
                "\"full\" or \"ca\"",
            ),
        ),
        (
            "url = \"mysql://app@db/app\"\ntls = { verify = \"ca\" }",
            ("5: store.tls.verify", "needs a ca_file", "ca_file = "),
        ),
        (
            "url = \"mysql://app@db/app\"\ntls = { ca = \"ca.pem\" }",
            ("5: store.tls.ca", "", "ca_file"),
        ),
        (
            "schema = { table_name = \"a`b\" }",
            (
                "4: store.schema.table_name",
                "is not a valid table or column name",
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
            "schema = { column_names = { data = \"Session_ID\" } }",
            (
                "4: store.schema.column_names.data",
                "two columns have one name",
                "",
            ),
        ),
        (
            "schema = { column_names = { data = \"Cloakroom_token\" } }",
            (
                "4: store.schema.column_names.data",
                "a column that this host adds",
                "another name",
            ),
        ),
        (
            "user = \"u\"\ndatabase = \"d\"\nhost = []",
            ("6: store.host", "the list is empty", "at least one"),
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
