//! Permanent refusals of a table: logged at the start, and answered with a 500 without `Retry-After`. Characters that the data column
//! cannot store are not refused: they are escaped.

use cloakroom_session::store::StoreErrorKind;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::{Database, Mariadb};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::contract::EXPRESS_TABLE;
use super::{
    assert_committed, assert_failed, commit, connect, created, load, options, record, update,
};
use crate::{run_script, script};

/// Returns a database whose table has a part of Express's definition replaced, and an administrator's connection that uses the database.
async fn with_table(part: &str, instead: &str) -> (Database, Conn) {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut admin = mariadb.admin().await;
    let used = admin.query_drop(format!("USE {}", database.name)).await;
    used.unwrap();
    assert!(EXPRESS_TABLE.contains(part));
    let ddl = EXPRESS_TABLE.replace(part, instead);
    admin.query_drop(ddl).await.unwrap();
    (database, admin)
}

fn host_over(database: &Database) -> Host {
    let config = Config::over(&database.url).guest("/s", "fixture-session");
    config.start()
}

const DATA_COLUMN: &str = "`data` mediumtext COLLATE utf8mb4_bin";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_beyond_the_columns_character_set_are_kept_as_escapes() {
    for (set, stored) in [
        ("utf8mb3", r#""name":"é가\ud83e\udd95""#),
        ("latin1", r#""name":"é\uac00\ud83e\udd95""#),
        ("ascii", r#""name":"\u00e9\uac00\ud83e\udd95""#),
        ("cp1251", r#""name":"\u00e9\uac00\ud83e\udd95""#),
        ("sjis", r#""name":"\u00e9\uac00\ud83e\udd95""#),
    ] {
        let column = format!("`data` mediumtext CHARACTER SET {set}");
        let (database, mut admin) = with_table(DATA_COLUMN, &column).await;
        let host = host_over(&database);
        host.wait_for_log("has the character set").await;
        let browser = Browser::new();
        script(&browser, &host, &[r#"set name "é가🦕""#]).await;
        let data: Option<String> = admin
            .query_first("SELECT data FROM sessions")
            .await
            .unwrap();
        let data = data.unwrap();
        assert!(data.contains(stored), "{set}: {data}");
        // A second write compares the digest of the first write's data.
        script(&browser, &host, &["set n 1", "set ü가🦕 2"]).await;
        assert_eq!(
            script(&browser, &host, &["get ü가🦕"]).await,
            ["2"],
            "{set}"
        );
        let name = script(&browser, &host, &["get name"]).await;
        let name: String = serde_json::from_str(&name[0]).unwrap();
        assert_eq!(name, "é가🦕", "{set}");
        assert_eq!(host.log_count("has the character set"), 1, "{}", host.log());
    }
}

#[tokio::test]
async fn every_character_that_a_set_of_one_byte_has_is_stored_as_it_is() {
    for (set, count, some) in [
        ("latin1", 128, "é€"),
        ("latin2", 128, "żł"),
        ("cp1251", 127, "Яж€"),
        ("koi8r", 128, "Яж"),
        ("greek", 122, "Ωλ"),
    ] {
        let column = format!("`data` mediumtext CHARACTER SET {set}");
        let (database, _admin) = with_table(DATA_COLUMN, &column).await;
        let store = connect(&options(&database.url)).await;
        let charset = store.charset();
        let held: String = ('\u{80}'..='\u{ffff}')
            .filter(|c| charset.holds(*c))
            .collect();
        assert_eq!(held.chars().count(), count, "{set}: {held}");
        assert!(some.chars().all(|c| held.contains(c)), "{set}: {held}");
        let data = format!(r#"{{"cookie":{{}},"all":"{held}"}}"#);
        let (_, row) = created(&store, &data).await;
        assert_eq!(row.data, data.as_bytes(), "{set}");
    }
}

#[tokio::test]
async fn a_character_that_was_not_escaped_is_refused_for_good() {
    let (database, _admin) =
        with_table(DATA_COLUMN, "`data` mediumtext CHARACTER SET utf8mb3").await;
    let store = connect(&options(&database.url)).await;
    let (id, row) = created(&store, r#"{"cookie":{}}"#).await;
    let verdict = commit(&store, &id, update(&row, r#"{"cookie":{},"n":"🦕"}"#)).await;
    assert_failed(&verdict, StoreErrorKind::Refused);
    let text = format!("{verdict:?}");
    assert!(text.contains("change the column to utf8mb4"), "{text}");
    assert!(!text.contains(id.as_str()), "{text}");
    assert_eq!(load(&store, &id).await, Some(row));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_refuses_new_sessions_is_reported_at_start_and_causes_500() {
    for (part, instead, log_line, text) in [
        (
            "`session_id` varchar(128)",
            "`session_id` varchar(16)",
            "has room for 16 characters",
            "the id column has room for 16 characters",
        ),
        (
            "PRIMARY KEY",
            "`who` varchar(9) NOT NULL, PRIMARY KEY",
            "NOT NULL without a default (`who`)",
            "server error 1364",
        ),
        (
            "PRIMARY KEY",
            "CONSTRAINT `tiny` CHECK (LENGTH(`data`) < 5), PRIMARY KEY",
            "has CHECK constraints (tiny)",
            "server error 4025",
        ),
        (
            "`expires` int(11) unsigned",
            "`expires` mediumint unsigned",
            "has the type mediumint",
            "server error 1264",
        ),
    ] {
        let (database, _admin) = with_table(part, instead).await;
        let host = host_over(&database);
        host.wait_for_log(log_line).await;
        let answer = run_script(&Browser::new(), &host, &["set n 1"]).await;
        assert_eq!(answer.status, 500, "{instead}: {}", answer.text);
        assert!(answer.header("retry-after").is_none(), "{instead}");
        assert!(answer.set_cookies().is_empty(), "{instead}");
        assert!(answer.text.contains("refuses"), "{}", answer.text);
        host.wait_for_log(text).await;
    }
}

#[tokio::test]
async fn a_time_beyond_a_signed_column_is_refused_and_others_are_kept() {
    let (database, _admin) = with_table("`expires` int(11) unsigned", "`expires` int(11)").await;
    let store = connect(&options(&database.url)).await;
    let (id, row) = created(&store, r#"{"cookie":{}}"#).await;
    let mut late = record(r#"{"cookie":{},"n":1}"#);
    late.expires_at_s = i64::from(i32::MAX) + 1;
    let new_id = cloakroom_session::record::SessionId::generate();
    let verdict = commit(
        &store,
        &new_id,
        cloakroom_session::store::RowChange::Create(late),
    )
    .await;
    assert_failed(&verdict, StoreErrorKind::Refused);
    assert_committed(&commit(&store, &id, update(&row, r#"{"cookie":{},"n":2}"#)).await);
}
