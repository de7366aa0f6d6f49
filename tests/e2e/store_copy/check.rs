//! The reports of `cloakroom store check` on a store, its table and the servers of a list.

use cloakroom_tests::chaos_proxy::ChaosProxy;
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::{Database, Mariadb};
use mysql_async::prelude::Queryable as _;

use super::{file_of, store, url_of};

fn check(url: &str, database: &Database) -> (Option<i32>, String) {
    let args = ["check", url, "--password", "env:DB_PASSWORD"];
    store(&args, &database.password)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_has_a_line_for_each_subject() {
    const SUBJECTS: [&str; 6] = [
        "schema",
        "charset",
        "privileges",
        "causality",
        "latency",
        "clock",
    ];
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let check = || check(&url_of(&database), &database);
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("fault: schema: there is no table"), "{text}");

    let host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    let (_, text) = check();
    for subject in SUBJECTS {
        assert_eq!(text.matches(&format!(": {subject}: ")).count(), 1, "{text}");
    }
    for subject in ["schema", "charset", "privileges", "causality", "clock"] {
        assert!(
            text.contains(&format!("ok: {subject}: ")),
            "{subject}: {text}"
        );
    }
    let alter = format!(
        "ALTER TABLE {}.sessions DROP COLUMN cloakroom_created, MODIFY data mediumtext CHARACTER SET latin1",
        database.name
    );
    drop(host);
    mariadb.admin().await.query_drop(alter).await.unwrap();
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("warning: schema: the session table lacks Cloakroom's columns or index"),
        "{text}"
    );
    assert!(
        text.contains("warning: charset: the column `data` has the character set latin1"),
        "{text}"
    );
    let remedy = "remedy: ALTER TABLE `sessions` ADD COLUMN `cloakroom_created`";
    assert!(text.contains(remedy), "{text}");

    let host = Config::over("sqlite:sessions.sqlite")
        .guest("/s", "fixture-session")
        .start();
    let url = format!("sqlite:{}", file_of(&host).display());
    let (code, text) = store(&["check", &url], &database.password);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.lines().count(), SUBJECTS.len(), "{text}");
}

/// The check uses the rules of a host's start: a definition that refuses every session is an error, and one
/// that may refuse some is a warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_judges_the_table_as_the_start_does() {
    let mariadb = Mariadb::shared().await;
    for (change, expected) in [
        (
            "MODIFY expires datetime NOT NULL",
            Some("fault: schema: the column `expires` has the type datetime"),
        ),
        (
            "MODIFY expires mediumint NOT NULL",
            Some("fault: schema: the column `expires` has the type mediumint"),
        ),
        (
            "MODIFY expires int NOT NULL",
            Some("warning: schema: the column `expires` has the type int"),
        ),
        (
            "ADD CONSTRAINT short CHECK (length(data) < 9)",
            Some("warning: schema: the table `sessions` has CHECK constraints (short)"),
        ),
        (
            "ADD COLUMN tenant int NOT NULL",
            Some("fault: schema: the table `sessions` has columns of another program"),
        ),
        (
            "MODIFY session_id varchar(16) COLLATE utf8mb4_bin NOT NULL",
            Some("fault: schema: the column `session_id` has room for 16"),
        ),
        ("ADD COLUMN tenant int NOT NULL DEFAULT 1", None),
        ("ADD COLUMN tier enum('a', 'b') NOT NULL", None),
    ] {
        let database = mariadb.fresh_database().await;
        let ddl = format!(
            "CREATE TABLE {}.sessions (session_id varchar(128) COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, expires int unsigned NOT NULL, \
             data mediumtext COLLATE utf8mb4_bin, cloakroom_token varbinary(32) NOT NULL DEFAULT '', cloakroom_created int unsigned NULL, \
             KEY cloakroom_expires (expires))",
            database.name
        );
        let alter = format!("ALTER TABLE {}.sessions {change}", database.name);
        let mut admin = mariadb.admin().await;
        admin.query_drop(ddl).await.unwrap();
        admin.query_drop(alter).await.unwrap();
        let (_, text) = check(&url_of(&database), &database);
        let expected = expected.unwrap_or("ok: schema: ");
        assert!(text.contains(expected), "{change}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_looks_at_each_server_of_a_list() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    drop(
        Config::over(&database.url)
            .guest("/s", "fixture-session")
            .start(),
    );
    let Database {
        user, port, name, ..
    } = &database;
    // Two addresses of one server, and a third port on which no program listens.
    let proxy = ChaosProxy::to_port(database.port).await;
    let second = proxy.port();
    let url = format!("mysql://{user}@127.0.0.1:{port},127.0.0.1:{second},127.0.0.1:1/{name}");
    let (code, text) = check(&url, &database);
    assert_eq!(code, Some(1), "{text}");
    for server in [*port, second].map(|port| format!("127.0.0.1:{port}")) {
        for subject in ["schema", "charset", "privileges", "causality", "clock"] {
            let line = format!("{server}: ok: {subject}: ");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
    assert!(text.contains("127.0.0.1:1: fault: reach: "), "{text}");
    assert!(
        text.contains("\nwarning: causality: the URL names several servers"),
        "{text}"
    );
}

/// The last pass of a copy expects a source that is closed to writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_examined_and_copied() {
    let mariadb = Mariadb::start().await;
    let database = mariadb.fresh_database().await;
    drop(
        Config::over(&database.url)
            .guest("/s", "fixture-session")
            .start(),
    );
    let directory = tempfile::tempdir().unwrap();
    let to = format!("sqlite:{}", directory.path().join("s.sqlite").display());
    let from = url_of(&database);
    let copy = || {
        let args = [
            "copy",
            "--from",
            &from,
            "--to",
            &to,
            "--from-password",
            "env:DB_PASSWORD",
            "--final",
        ];
        store(&args, &database.password)
    };
    let warning = "warning: --from: the server accepts writes";
    let (code, text) = copy();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(warning), "{text}");

    let mut admin = mariadb.admin().await;
    admin.query_drop("SET GLOBAL read_only = 1").await.unwrap();
    let (code, text) = copy();
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains(warning), "{text}");
    assert!(text.contains("verified: 0 sessions"), "{text}");

    let (code, text) = check(&from, &database);
    assert_eq!(code, Some(1), "{text}");
    for line in [
        "ok: schema: ",
        "ok: privileges: the account may SELECT; the server takes no writes (read_only is on)",
        "ok: clock: ",
        "fault: privileges: the server takes no writes",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
