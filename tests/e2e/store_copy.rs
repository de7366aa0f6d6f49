//! `cloakroom store copy` and `cloakroom store check`: a copy from the embedded store to MariaDB while a host serves, and back.

mod check;
mod deletions;

use std::path::{Path, PathBuf};
use std::process::Command;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, binary};
use cloakroom_tests::mariadb::{Database, Mariadb};
use mysql_async::prelude::Queryable as _;

use crate::{script, sqlite_rows};

/// Runs `cloakroom store` with the database's password in a variable. Returns its exit code and all of its output.
fn store(args: &[&str], password: &str) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .arg("store")
        .args(args)
        .env("DB_PASSWORD", password)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    let text = text.concat();
    assert!(
        !text.contains(password),
        "the output contains the password: {text}"
    );
    (output.status.code(), text)
}

fn url_of(database: &Database) -> String {
    let Database {
        user, port, name, ..
    } = database;
    format!("mysql://{user}@127.0.0.1:{port}/{name}")
}

fn file_of(host: &Host) -> PathBuf {
    host.directory.path().join("sessions.sqlite")
}

/// Copies an embedded store to a database.
fn copy(file: &Path, database: &Database, is_final: bool) -> (Option<i32>, String) {
    let from = format!("sqlite:{}", file.display());
    let to = url_of(database);
    let mut args = vec!["copy", "--from", &from, "--to", &to];
    args.extend(["--to-password", "env:DB_PASSWORD"]);
    args.extend(is_final.then_some("--final"));
    store(&args, &database.password)
}

async fn visitor(host: &Host, n: usize) -> Browser {
    let browser = Browser::new();
    script(&browser, host, &[&format!("set n {n}")]).await;
    browser
}

/// Returns a browser with the current cookie of this one, unaffected by later changes of that cookie.
fn twin(browser: &Browser, host: &Host) -> Browser {
    let url = host.url("/");
    let cookie = browser.cookies(&url).expect("the visitor has a cookie");
    Browser::with_cookie(&url, &cookie)
}

async fn ids(mariadb: &Mariadb, database: &Database) -> Vec<String> {
    let select = format!(
        "SELECT session_id FROM {}.sessions ORDER BY session_id",
        database.name
    );
    mariadb.admin().await.query(select).await.unwrap()
}

/// Fault 38: a host serves from the embedded store while its sessions are copied to MariaDB. Each cookie stays valid, a session that logged
/// out during the copy does not come back, and a second run writes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_mysql_under_a_serving_host_keeps_cookies_and_logouts() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut host = Config::over("sqlite:sessions.sqlite")
        .guest("/s", "fixture-session")
        .start();
    let file = file_of(&host);
    let mut visitors = Vec::new();
    for n in 0..20 {
        visitors.push(visitor(&host, n).await);
    }

    let (code, text) = copy(&file, &database, false);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("copied 20, "), "{text}");
    assert!(text.contains("not verified: "), "{text}");

    let logged_out = twin(&visitors[0], &host);
    script(&visitors[0], &host, &["destroy"]).await;
    script(&visitors[1], &host, &["set n 101"]).await;
    visitors.push(visitor(&host, 20).await);

    let (code, text) = copy(&file, &database, true);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is open in a host"), "{text}");
    assert_eq!(
        ids(mariadb, &database).await.len(),
        20,
        "nothing was deleted"
    );

    assert!(host.terminate().success());
    let (code, text) = copy(&file, &database, true);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("copied 1, replaced 1, "), "{text}");
    assert!(text.contains("deleted 1 session\n"), "{text}");
    assert!(
        text.contains("verified: 20 sessions are the same"),
        "{text}"
    );

    let (code, text) = copy(&file, &database, true);
    assert_eq!(code, Some(0), "{text}");
    let nothing = "copied 0, replaced 0, moved the expiry of 0, deleted 0 sessions";
    assert!(text.contains(nothing), "{text}");
    let there: Vec<_> = sqlite_rows(&file).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids(mariadb, &database).await, there);

    let host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    assert_eq!(script(&logged_out, &host, &["get n"]).await, ["none"]);
    assert_eq!(script(&visitors[1], &host, &["get n"]).await, ["101"]);
    for (n, visitor) in visitors.iter().enumerate().skip(2) {
        assert_eq!(script(visitor, &host, &["get n"]).await, [n.to_string()]);
        script(visitor, &host, &["set n -1"]).await;
        assert_eq!(script(visitor, &host, &["get n"]).await, ["-1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_a_host_serves_from_keeps_its_sessions() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut old = Config::over("sqlite:sessions.sqlite")
        .guest("/s", "fixture-session")
        .start();
    let moved = visitor(&old, 1).await;
    assert!(old.terminate().success());
    let (code, text) = copy(&file_of(&old), &database, true);
    assert_eq!(code, Some(0), "{text}");

    let new = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    script(&moved, &new, &["set n 2"]).await;
    let newcomer = visitor(&new, 3).await;
    let (code, text) = copy(&file_of(&old), &database, true);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("1 session is newer in the target: a host already uses the target"),
        "{text}"
    );
    let (code, text) = copy(&file_of(&old), &database, false);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nothing was written"), "{text}");
    assert_eq!(script(&moved, &new, &["get n"]).await, ["2"]);
    assert_eq!(script(&newcomer, &new, &["get n"]).await, ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_mysql_are_copied_into_a_file() {
    let database = Mariadb::shared().await.fresh_database().await;
    let mut host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    let mut visitors = Vec::new();
    for n in 0..5 {
        visitors.push(visitor(&host, n).await);
    }
    assert!(host.terminate().success());
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (
        url_of(&database),
        format!("sqlite:{}", directory.path().join("s.sqlite").display()),
    );
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
    let (code, text) = store(&args, &database.password);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("verified: 5 sessions"), "{text}");
    let host = Config::over(&to).guest("/s", "fixture-session").start();
    for (n, visitor) in visitors.iter().enumerate() {
        assert_eq!(script(visitor, &host, &["get n"]).await, [n.to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_beyond_the_targets_character_set_are_copied_as_escapes() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let ddl = format!(
        "CREATE TABLE {}.sessions (session_id varchar(128) COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, expires int unsigned NOT NULL, \
         data mediumtext CHARACTER SET latin1, cloakroom_token varbinary(32) NOT NULL DEFAULT '', cloakroom_created int unsigned NULL)",
        database.name
    );
    mariadb.admin().await.query_drop(ddl).await.unwrap();
    let mut host = Config::over("sqlite:sessions.sqlite")
        .guest("/s", "fixture-session")
        .start();
    let visitor = Browser::new();
    script(&visitor, &host, &[r#"set name "é가🦕""#]).await;
    let file = file_of(&host);
    assert!(host.terminate().success());

    for copied in ["copied 1, ", "copied 0, replaced 0, "] {
        let (code, text) = copy(&file, &database, true);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(copied), "{text}");
        assert!(text.contains("verified: 1 session is"), "{text}");
    }

    let select = format!("SELECT data FROM {}.sessions", database.name);
    let data: Option<String> = mariadb.admin().await.query_first(select).await.unwrap();
    let data = data.unwrap();
    assert!(data.contains(r#""name":"é\uac00\ud83e\udd95""#), "{data}");
    let host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    let name = script(&visitor, &host, &["get name"]).await;
    let name: String = serde_json::from_str(&name[0]).unwrap();
    assert_eq!(name, "é가🦕");
}

#[test]
fn invalid_store_arguments_are_reported_by_flag_without_a_password() {
    let cases: [(&[&str], &str); 5] = [
        (
            &["copy", "--from", "redis://h", "--to", "sqlite:b"],
            "--from: its scheme is not memory, sqlite or mysql",
        ),
        (
            &["copy", "--from", "memory:", "--to", "sqlite:b"],
            "--from: a store in memory ends with its host",
        ),
        (
            &[
                "copy",
                "--from",
                "sqlite:/no/such/file",
                "--to",
                "sqlite:/tmp/never-made",
            ],
            "--from: cannot read the session database /no/such/file",
        ),
        (
            &["check", "mysql://ann:pw-Zq7@127.0.0.1/app"],
            "--password env:NAME",
        ),
        (
            &[
                "check",
                "mysql://ann@127.0.0.1/app",
                "--password",
                "env:NO_SUCH_NAME",
            ],
            "the environment variable NO_SUCH_NAME is not set",
        ),
    ];
    for (args, expected) in cases {
        let (code, text) = store(args, "pw-Zq7");
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(text.contains(expected), "{args:?}: {text}");
    }
    assert!(!Path::new("/tmp/never-made").exists());
}
