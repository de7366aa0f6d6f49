//! Fault 18: a bad network between two hosts and the database. Statements and replies are lost, delayed and reordered, and connections are
//! cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::pause;
use futures_util::future::{join, join_all};

use super::{number, scripted, until};
use crate::{run_script, script};

const VISITORS: usize = 24;
const STORM: Duration = Duration::from_secs(6);

async fn storm(proxies: &[ChaosProxy; 2], is_over: &AtomicBool) {
    let end = Instant::now() + STORM;
    while Instant::now() < end {
        let proxy = &proxies[fastrand::usize(..2)];
        let loss = match fastrand::u32(..5) {
            0 => Loss::Reply,
            1 => Loss::Request,
            2 => Loss::Late(Duration::from_millis(fastrand::u64(..150))),
            3 => {
                proxy.cut();
                Loss::Late(Duration::from_millis(5))
            }
            _ => {
                proxy.blackhole();
                let gap = Duration::from_millis(fastrand::u64(..120));
                pause(gap, "the network is silent").await;
                proxy.forward().await;
                Loss::Late(Duration::ZERO)
            }
        };
        let prefixes = ["", "UPDATE", "INSERT", "SELECT", "DELETE"];
        proxy.disturb(Disturbance {
            loss,
            prefix: prefixes[fastrand::usize(..5)].into(),
            every: fastrand::u32(1..4),
            times: 3,
        });
        let gap = Duration::from_millis(fastrand::u64(..60));
        pause(gap, "the pace of the faults").await;
    }
    is_over.store(true, Ordering::Relaxed);
    proxies.iter().for_each(ChaosProxy::calm);
}

/// Every 200 is in the session once and every 503 at most once. An answered logout is valid on both hosts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_bad_network_every_answer_is_kept_once_and_every_logout_holds() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxies = [
        ChaosProxy::to_port(database.port).await,
        ChaosProxy::to_port(database.port).await,
    ];
    let hosts = [0, 1].map(|n: usize| {
        scripted(&database.url_through(proxies[n].port()))
            .top("[log]\nlevel = \"error\"")
            .start()
    });
    let is_over = AtomicBool::new(false);
    let visitors: Vec<_> = (0..VISITORS).map(|_| Browser::new()).collect();
    join_all(visitors.iter().map(|v| script(v, &hosts[0], &["set n 0"]))).await;
    let visits = join_all(
        visitors
            .iter()
            .enumerate()
            .map(async |(number_of, visitor)| {
                let (mut answered, mut refused, mut last) = (0_u64, 0_u64, 0);
                let cookie = visitor.cookies(&hosts[0].url("/")).unwrap();
                let (mut is_gone, mut has_tried) = (false, false);
                while !is_over.load(Ordering::Relaxed) && !is_gone {
                    let host = &hosts[fastrand::usize(..2)];
                    let twin = Browser::with_cookie(&host.url("/"), &cookie);
                    // A third of the visitors logs out halfway.
                    let is_leaving = number_of % 3 == 0 && answered > 5;
                    has_tried |= is_leaving;
                    let operation = if is_leaving {
                        "destroy"
                    } else {
                        "increment n 1"
                    };
                    let answer = run_script(&twin, host, &[operation]).await;
                    match answer.status {
                        200 if is_leaving => is_gone = true,
                        200 => {
                            answered += 1;
                            let sum = number(&answer.text);
                            assert!(sum > last, "a sum only grows: {sum} after {last}");
                            last = sum;
                        }
                        // The session may have ended in spite of the 503; the next request shows that.
                        503 if is_leaving => {}
                        503 => refused += 1,
                        other => panic!("{other}: {}", answer.text),
                    }
                }
                (cookie, answered, refused, is_gone, has_tried)
            }),
    );
    let (visits, ()) = join(visits, storm(&proxies, &is_over)).await;

    for host in &hosts {
        until(host, "it recovers", async || {
            run_script(&Browser::new(), host, &["set n 1"]).await.status == 200
        })
        .await;
    }
    let (mut total, mut gone) = (0, 0);
    for (cookie, answered, refused, is_gone, has_tried) in visits {
        total += answered;
        gone += u64::from(is_gone);
        for host in &hosts {
            let twin = Browser::with_cookie(&host.url("/"), &cookie);
            let held = script(&twin, host, &["get n"]).await.remove(0);
            if is_gone {
                assert_eq!(held, "none", "a logout was undone");
            } else if held == "none" {
                assert!(has_tried, "a session was lost after {answered} answers");
            } else {
                let held = number(&held);
                let range = answered..=answered + refused;
                assert!(range.contains(&held), "{held} is not in {range:?}");
            }
        }
    }
    let losses = proxies[0].losses() + proxies[1].losses();
    eprintln!("{total} answered, {gone} left, {losses} statements disturbed");
    assert!(total > 50 && gone > 0 && losses > 20);
}
