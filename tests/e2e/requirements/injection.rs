//! Requirement 40: text that a database could interpret as part of a statement is stored unchanged, also on a server with unusual escapes
//! and quotes.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::{Database, Mariadb};
use serde_json::json;

use crate::script;

const TEXTS: [&str; 12] = [
    "'",
    "\\'",
    "\\",
    "''; DROP TABLE sessions; --",
    "x'41'",
    "/*!50000 DELETE FROM sessions */",
    "`sessions`",
    "\"",
    "%_",
    "\u{0}\u{1a}\u{7f}",
    "\u{2028}é\u{1f980}",
    "${jndi}#{x}--\t",
];

async fn are_texts(database: &Database) {
    let host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    let bystander = Browser::new();
    script(&bystander, &host, &["set n 1"]).await;
    for text in TEXTS {
        let browser = Browser::new();
        // The language of the scripts gives spaces and line ends a meaning of their own.
        let key = text.replace([' ', '\t'], "_");
        let value = json!(text).to_string();
        let set = format!("set {key} {value}");
        assert_eq!(script(&browser, &host, &[&set]).await, ["ok"], "{text:?}");
        let get = format!("get {key}");
        assert_eq!(script(&browser, &host, &[&get]).await, [value], "{text:?}");
        let keys = json!([key]).to_string();
        assert_eq!(script(&browser, &host, &["keys"]).await, [keys], "{text:?}");
        let answer = script(&browser, &host, &["renew", &get]).await;
        assert_eq!(answer[0], "ok", "{text:?}");
    }
    assert_eq!(script(&bystander, &host, &["get n"]).await, ["1"]);
    assert_eq!(database.sessions().await.len(), TEXTS.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_in_session_data_is_stored_as_text() {
    are_texts(&Mariadb::shared().await.fresh_database().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_in_session_data_is_stored_as_text_without_backslash_escapes() {
    let server =
        Mariadb::start_with(&["--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES,STRICT_ALL_TABLES"])
            .await;
    are_texts(&server.fresh_database().await).await;
}
