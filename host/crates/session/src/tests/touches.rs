//! When a visit that writes nothing moves its row's expiry, and to where.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::{SessionOptions, TouchPolicy};
use super::guest::{answered, guest};
use super::house::{House, NOW_MS};
use super::stubborn::{Asked, Fate};

#[tokio::test]
async fn a_touch_is_sent_when_it_moves_the_end_by_enough() {
    // Lifetime, time since the last use, whether a visit that only reads touches, and whether one that calls `touch` does.
    let cases = [
        (Duration::from_secs(86_400), 60_000, false, true),
        (Duration::from_secs(86_400), 61_000, true, true),
        (Duration::from_secs(100), 5_000, false, true),
        (Duration::from_secs(100), 6_000, true, true),
        (Duration::from_secs(100), 0, false, false),
    ];
    for (idle_expiration, passed_ms, is_touched, is_touched_if_asked) in cases {
        for (policy, by_guest, expected) in [
            (TouchPolicy::Throttled, false, is_touched),
            (TouchPolicy::Throttled, true, is_touched_if_asked),
            (TouchPolicy::Always, false, passed_ms > 0),
            (TouchPolicy::Never, false, false),
            (TouchPolicy::Never, true, false),
        ] {
            let house = House::with(SessionOptions {
                idle_expiration,
                touch: policy,
                ..SessionOptions::default()
            });
            let id = house.make(None, &[("a", "1")]);
            house.clock.advance(passed_ms);
            let reader = guest(|session, _| async move {
                session.get("a").await?;
                if by_guest {
                    session.touch().await?
                }
                Ok(())
            });
            answered(house.request(&id, reader).await);
            let asked = house.asked().await;
            let case = format!("{idle_expiration:?}, {passed_ms} ms, {policy:?}, {by_guest}");
            assert_eq!(asked.contains(&Asked::Touch), expected, "{case}");
            let moved_ms = if expected { passed_ms } else { 0 };
            let ends_at_s = (NOW_MS + moved_ms) / 1_000;
            let row = house.row(&id).await.expect("a row");
            let lifetime_s = idle_expiration.as_secs() as i64;
            assert_eq!(row.expires_at_s, ends_at_s + lifetime_s, "{case}");
        }
    }
}

#[tokio::test]
async fn many_readers_at_once_touch_each_session_once_and_together() {
    let house = House::with(SessionOptions {
        idle_expiration: Duration::from_secs(100),
        ..SessionOptions::default()
    });
    house.store.pauses.store(3, Ordering::Relaxed);
    let ids: Vec<_> = (0..20).map(|_| house.make(None, &[("a", "1")])).collect();
    house.clock.advance(50_000);
    let read = |id| {
        let reader = guest(|session, _| async move {
            session.get("a").await?;
            Ok(())
        });
        house.request(id, reader)
    };
    let visits = ids.iter().chain(&ids).chain(&ids).map(read);
    for outcome in join_all(visits).await {
        answered(outcome);
    }
    let asked = house.asked().await;
    let touches = asked.iter().filter(|asked| **asked == Asked::Touch).count();
    assert!(touches <= 3, "{touches} batches for {} sessions", ids.len());
    assert_eq!(house.counters().touches.get(), ids.len() as u64);
    for id in &ids {
        let row = house.row(id).await.expect("a row");
        assert_eq!(row.expires_at_s, NOW_MS / 1_000 + 150);
    }
}

#[tokio::test]
async fn a_touch_that_failed_is_tried_again_by_the_next_visit() {
    let house = House::with(SessionOptions {
        idle_expiration: Duration::from_secs(100),
        ..SessionOptions::default()
    });
    let id = house.make(None, &[("a", "1")]);
    house.clock.advance(50_000);
    for fate in [Fate::DOWN, Fate::Done] {
        house.store.will_load([Fate::Done]);
        house.store.will(fate);
        answered(
            house
                .request(
                    &id,
                    guest(|session, _| async move { Ok(session.get("a").await?) }),
                )
                .await,
        );
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    house.asked().await;
    let row = house.row(&id).await.expect("a row");
    assert_eq!(row.expires_at_s, NOW_MS / 1_000 + 150);
}
