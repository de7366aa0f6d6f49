//! Requests with the old id during the rotation of a session's id.

use std::time::Duration;

use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::pause;
use futures_util::future::{join, join_all};

use crate::{run_script, script};

/// Requirement 6: each of 20 requests with the old id during its rotation on the other host is answered as if it came before the rotation
/// or after it. One session never becomes two, and afterwards the old id is invalid on both hosts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_with_the_old_id_come_before_the_rotation_or_after_it() {
    for change in ["renew", "regenerate"] {
        let database = Mariadb::shared().await.fresh_database().await;
        let config = Config::over(&database.url).guest("/s", "fixture-session");
        let hosts = [config.start(), config.start()];
        for round in 0..10_usize {
            let browser = Browser::new();
            script(&browser, &hosts[0], &["set n 0", "set kept 1"]).await;
            let old = browser.cookies(&hosts[0].url("/")).unwrap();
            let writers = (0..20).map(|n| {
                let host = &hosts[n % 2];
                let visitor = Browser::with_cookie(&host.url("/"), &old);
                async move {
                    let delay = Duration::from_millis(n as u64);
                    pause(delay, "the writers arrive one after the other").await;
                    run_script(&visitor, host, &["get kept", "increment n 1"]).await
                }
            });
            let rotation = async {
                let delay = Duration::from_millis(round as u64);
                pause(delay, "each round rotates at another moment").await;
                run_script(&browser, &hosts[1], &["get n", change, "set in 1"]).await
            };
            let (answers, rotated) = join(join_all(writers), rotation).await;
            assert_eq!(rotated.status, 200, "{}", rotated.text);
            let before = answers.iter().filter(|answer| came_before(answer)).count();

            // The session exists once. A request after the rotation was anonymous and has none of its data.
            let rows = database.sessions().await;
            let with = |part: &str| rows.iter().filter(|row| row.data.contains(part)).count();
            assert_eq!(with("\"in\":1"), round + 1, "round {round}");
            let kept = if change == "renew" { round + 1 } else { 0 };
            assert_eq!(with("\"kept\":1"), kept, "round {round}");
            for host in &hosts {
                let replay = Browser::with_cookie(&host.url("/"), &old);
                assert_eq!(script(&replay, host, &["get kept"]).await, ["none"]);
                let new = browser.cookies(&hosts[1].url("/")).unwrap();
                let visitor = Browser::with_cookie(&host.url("/"), &new);
                let held = script(&visitor, host, &["get in", "get kept", "get n"]).await;
                // The increments before a `renew` are in the data that moved. `regenerate` left all data behind.
                let expected = match change {
                    "renew" => ["1".to_owned(), "1".to_owned(), before.to_string()],
                    _ => ["1", "none", "none"].map(str::to_owned),
                };
                assert_eq!(held, expected, "round {round}");
            }
        }
    }
}

/// Returns whether a writer found the session. If not, it was anonymous and nothing was stored.
fn came_before(answer: &Answer) -> bool {
    assert_eq!(answer.status, 200, "{}", answer.text);
    if answer.text.starts_with("1\n") {
        return true;
    }
    assert_eq!(answer.text, "none\n1\n");
    false
}
