//! A table that compares ids with a collation. The host warns at its start and does not sign a value that could match another session's id.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::{Database, Mariadb};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::contract::EXPRESS_TABLE;
use super::{connect, options};
use crate::run_script;

const ID: &str = "d7JoW4ib4H6NXslbHLUz1sQTH2aM1msl";

/// Returns a database with a table whose id column has this definition, and an administrator's connection that uses the database.
async fn with_ids(column: &str) -> (Database, Conn) {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut admin = mariadb.admin().await;
    admin
        .query_drop(format!("USE {}", database.name))
        .await
        .unwrap();
    let ddl = EXPRESS_TABLE.replace("varchar(128) COLLATE utf8mb4_bin", column);
    admin.query_drop(ddl).await.unwrap();
    (database, admin)
}

#[tokio::test]
async fn an_id_column_that_compares_bytes_is_distinguished_from_a_loose_one() {
    for (column, is_loose) in [
        ("varchar(128) COLLATE utf8mb4_bin", false),
        ("varbinary(128)", false),
        (
            "varchar(128) CHARACTER SET latin1 COLLATE latin1_bin",
            false,
        ),
        ("varchar(128) CHARACTER SET ascii COLLATE ascii_bin", false),
        ("varchar(128) COLLATE utf8mb4_general_ci", true),
        ("varchar(128) COLLATE utf8mb4_unicode_ci", true),
        (
            "varchar(128) CHARACTER SET latin1 COLLATE latin1_general_cs",
            true,
        ),
        (
            "varchar(128) CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci",
            true,
        ),
    ] {
        let (database, _admin) = with_ids(column).await;
        let store = connect(&options(&database.url)).await;
        assert_eq!(store.compares_ids_loosely(), is_loose, "{column}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_loose_column_no_guest_signs_a_text_beyond_ascii_with_the_sessions_secrets() {
    let (database, mut admin) = with_ids("varchar(128) COLLATE utf8mb4_general_ci").await;
    let accented = ID.replace('a', "á");
    let find = format!("SELECT '{ID}' COLLATE utf8mb4_general_ci = '{accented}'");
    let is_found: Option<i64> = admin.query_first(find).await.unwrap();
    assert_eq!(is_found, Some(1), "this is the danger");

    let config = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .env("OWN", "secrets of the guests' own, 32 bytes at least");
    let sign = |text: &str, signed: bool| {
        let line = serde_json::json!({ "name": "plan", "text": text, "signed": signed });
        format!("set-cookie {line}")
    };
    let output_of = async |config: &Config, line: &str| {
        let host = config.start();
        let text = run_script(&Browser::new(), &host, &[line]).await.text;
        (text, host.log())
    };
    let odd = sign(&accented, true);
    let (text, log) = output_of(&config, &odd).await;
    assert!(text.starts_with("error denied"), "{text}");
    assert!(text.contains("[cookies] secrets"), "{text}");
    assert_eq!(output_of(&config, &sign("gold", true)).await.0, "ok\n");
    assert_eq!(output_of(&config, &sign(&accented, false)).await.0, "ok\n");
    let apart = config.clone().top("[cookies]\nsecrets = [\"env:OWN\"]");
    assert_eq!(output_of(&apart, &odd).await.0, "ok\n");

    // The log contains the statement that fixes the column.
    let mut warnings = log
        .lines()
        .filter(|line| line.contains("compares ids without regard"));
    let (line, None) = (warnings.next().expect("a warning"), warnings.next()) else {
        panic!("it is logged once: {log}");
    };
    let (_, rest) = line.split_once("sql=\"").expect("with SQL");
    let sql = rest.split('"').next().unwrap().to_owned();
    admin.query_drop(sql).await.unwrap();
    let (text, log) = output_of(&config, &odd).await;
    assert_eq!(text, "ok\n");
    assert!(!log.contains("compares ids without regard"), "{log}");
}

/// Checks an assumption of the cookie jar: in no collation is a printable ASCII character that ids never contain equal to one that they may
/// contain, or ignored.
#[tokio::test]
async fn no_collation_takes_a_printable_ascii_sign_for_a_character_of_an_id_or_for_none() {
    let mut admin = Mariadb::shared().await.admin().await;
    let ids: Vec<u8> = (b'!'..=b'~')
        .filter(|c| c.is_ascii_alphanumeric() || b"-_".contains(c))
        .collect();
    let signs: Vec<u8> = (b'!'..=b'~').filter(|c| !ids.contains(c)).collect();
    let rows = |bytes: &[u8]| {
        let rows: Vec<_> = bytes
            .iter()
            .map(|c| format!("SELECT CHAR({c} USING utf8mb4) AS c"))
            .collect();
        rows.join(" UNION ALL ")
    };
    let named = "SELECT FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY \
                 WHERE CHARACTER_SET_NAME = 'utf8mb4'";
    let collations: Vec<String> = admin.query(named).await.unwrap();
    assert!(collations.len() > 40, "{collations:?}");
    for collation in collations {
        let equal = format!(
            "SELECT CONCAT(s.c, ' ', i.c) FROM ({}) s JOIN ({}) i ON s.c = i.c COLLATE {collation}",
            rows(&signs),
            rows(&ids)
        );
        let found: Vec<String> = admin.query(equal).await.unwrap();
        assert!(found.is_empty(), "{collation}: {found:?}");
        let ignored = format!(
            "SELECT s.c FROM ({}) s WHERE CONCAT('a', s.c, 'b') = 'ab' COLLATE {collation}",
            rows(&signs)
        );
        let found: Vec<String> = admin.query(ignored).await.unwrap();
        assert!(found.is_empty(), "{collation}: {found:?}");
    }
}
