//! End-to-end tests with the real binary, real guests, real stores and real clients.
//!
//! One file per subject. Shared parts are here and in the package's library. The guests' behavior is defined in `guests/fixtures`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should end there"
)]

mod admin;
mod bodies;
mod book;
mod boundaries;
mod cli;
mod cluster;
mod code_cache;
mod cookies;
mod counter;
mod dev;
mod drain;
mod express;
mod faults;
mod foreign_files;
mod foreign_names;
mod grants;
mod guests;
mod hoards;
mod inspect;
mod isolation;
mod js;
mod languages;
mod laws;
mod limits;
mod long;
mod mysql_store;
mod neighbours;
mod outage;
mod outbound;
mod outdated;
mod protocol;
mod python;
mod reload;
mod requirements;
mod reuse;
mod rollback;
mod rust_sdk;
mod scaffold;
mod serial;
mod sessions;
mod shares;
mod siege;
mod signals;
mod stalled_log;
mod start;
mod store_copy;
mod storm;
mod swap;
mod test_command;
mod trailers;
mod two_cookies;

use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::Host;

/// Runs `lines` in the scriptable guest routed at `/s` and returns one result per line.
async fn script(browser: &Browser, host: &Host, lines: &[&str]) -> Vec<String> {
    let answer = run_script(browser, host, lines).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
    answer.text.lines().map(str::to_owned).collect()
}

/// Runs `lines` in the scriptable guest and returns the whole answer.
async fn run_script(browser: &Browser, host: &Host, lines: &[&str]) -> Answer {
    browser.post(&host.url("/s"), lines.join("\n")).await
}

/// Returns the rows of an embedded store as another process sees them: id, expiry, data.
fn sqlite_rows(path: &std::path::Path) -> Vec<(String, i64, String)> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection =
        rusqlite::Connection::open_with_flags(path, flags).expect("the host made the file");
    let mut select = connection
        .prepare("SELECT session_id, expires, CAST(data AS TEXT) FROM sessions ORDER BY session_id")
        .expect("the host made the table");
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.expect("rows are readable")
        .map(|row| row.expect("a row is readable"))
        .collect()
}

/// Returns the id in a browser's cookie.
fn id_of(browser: &Browser, host: &Host) -> String {
    let cookies = browser
        .cookies(&host.url("/"))
        .expect("the browser holds a cookie");
    let (_, value) = cookies.split_once("s%3A").expect("a signed cookie");
    value.split('.').next().expect("an id").to_owned()
}
