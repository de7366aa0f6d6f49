//! Faults 19 and 20: many concurrent requests for one cold session, or for many. `long::herd` runs the 100,000 requests of fault 20.

use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::Mariadb;

use crate::long::herd::{all_come_at_once, cold_sessions};
use crate::run_script;

/// Fault 19: requests of one session that the host has not seen since its start share their reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_of_one_cold_session_share_their_reads() {
    const REQUESTS: usize = 10_000;
    const AT_ONCE: usize = 500;
    let server = Mariadb::shared().await;
    let database = server.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = Config::over(&database.url_through(proxy.port()))
        .top("[log]\nlevel = \"error\"")
        .guest("/s", "fixture-session")
        .store("clear_expired = false")
        .start();
    let cookie = cold_sessions(server, &database, 1).await.remove(0);
    proxy.disturb(Disturbance {
        loss: Loss::Late(Duration::from_millis(20)),
        prefix: "SELECT".into(),
        every: 1,
        times: u32::MAX,
    });
    let browser = Browser::with_cookie(&host.url("/"), &cookie);
    let visitors = (0..AT_ONCE).map(async |_| {
        for _ in 0..REQUESTS / AT_ONCE {
            let answer = run_script(&browser, &host, &["get n"]).await;
            assert_eq!((answer.status, answer.text.as_str()), (200, "0\n"));
        }
    });
    futures_util::future::join_all(visitors).await;
    let statements = proxy.losses() as usize;
    eprintln!("{REQUESTS} requests of one session by {statements} statements");
    // Each answer is confirmed by the store. Waiting requests share the statement that confirms them.
    assert!(
        (1..REQUESTS / 10).contains(&statements),
        "{statements} statements"
    );
}

/// Fault 20, in short form; `long::herd` runs the long form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_sessions_at_a_restart_are_read_together() {
    all_come_at_once(4_000, 250).await;
}
