//! When a visit that writes nothing moves its row's expiry, and to where.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::{SessionOptions, TouchPolicy};
use super::fixture::{NOW_MS, SessionFixture};
use super::guest::{answered, guest};
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
            let fixture = SessionFixture::with(SessionOptions {
                idle_expiration,
                touch: policy,
                ..SessionOptions::default()
            });
            let id = fixture.make(None, &[("a", "1")]);
            fixture.clock.advance(passed_ms);
            let reader = guest(|session, _| async move {
                session.get("a").await?;
                if by_guest {
                    session.touch().await?
                }
                Ok(())
            });
            answered(fixture.request(&id, reader).await);
            let asked = fixture.asked().await;
            let case = format!("{idle_expiration:?}, {passed_ms} ms, {policy:?}, {by_guest}");
            assert_eq!(asked.contains(&Asked::Touch), expected, "{case}");
            let moved_ms = if expected { passed_ms } else { 0 };
            let ends_at_s = (NOW_MS + moved_ms) / 1_000;
            let row = fixture.row(&id).await.expect("a row");
            let lifetime_s = idle_expiration.as_secs() as i64;
            assert_eq!(row.expires_at_s, ends_at_s + lifetime_s, "{case}");
        }
    }
}

#[tokio::test]
async fn many_readers_at_once_touch_each_session_once_and_together() {
    let fixture = SessionFixture::with(SessionOptions {
        idle_expiration: Duration::from_secs(100),
        ..SessionOptions::default()
    });
    fixture.store.pauses.store(3, Ordering::Relaxed);
    let ids: Vec<_> = (0..20).map(|_| fixture.make(None, &[("a", "1")])).collect();
    fixture.clock.advance(50_000);
    let read = |id| {
        let reader = guest(|session, _| async move {
            session.get("a").await?;
            Ok(())
        });
        fixture.request(id, reader)
    };
    let visits = ids.iter().chain(&ids).chain(&ids).map(read);
    for outcome in join_all(visits).await {
        answered(outcome);
    }
    let asked = fixture.asked().await;
    let touches = asked.iter().filter(|asked| **asked == Asked::Touch).count();
    assert!(touches <= 3, "{touches} batches for {} sessions", ids.len());
    assert_eq!(fixture.counters().touches.get(), ids.len() as u64);
    for id in &ids {
        let row = fixture.row(id).await.expect("a row");
        assert_eq!(row.expires_at_s, NOW_MS / 1_000 + 150);
    }
}

#[tokio::test]
async fn a_touch_that_failed_is_tried_again_by_the_next_visit() {
    let fixture = SessionFixture::with(SessionOptions {
        idle_expiration: Duration::from_secs(100),
        ..SessionOptions::default()
    });
    let id = fixture.make(None, &[("a", "1")]);
    fixture.clock.advance(50_000);
    for fate in [Fate::DOWN, Fate::Done] {
        fixture.store.will_load([Fate::Done]);
        fixture.store.will(fate);
        answered(
            fixture
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
    fixture.asked().await;
    let row = fixture.row(&id).await.expect("a row");
    assert_eq!(row.expires_at_s, NOW_MS / 1_000 + 150);
}
