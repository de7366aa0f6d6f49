//! The calls on the handle: their results and refusals, and that a refused call changes nothing.

use parking_lot::Mutex;

use super::super::{CookieChange, Session, SessionCallError, SessionError};
use super::fixture::{NOW_MS, SessionFixture, keys};
use super::guest::{Guest, Trap, answered, guest};
use cloakroom_base::limits::SESSION_VALUE_DEPTH_MAX;

fn is_invalid<T>(told: &Result<T, SessionCallError>) -> bool {
    matches!(told, Err(SessionCallError::Guest(SessionError::Invalid(_))))
}

/// Returns the text of a refusal with `invalid`.
fn complaint<T: std::fmt::Debug>(told: Result<T, SessionCallError>) -> String {
    match told {
        Err(SessionCallError::Guest(SessionError::Invalid(why))) => why,
        other => panic!("not invalid: {other:?}"),
    }
}

/// Runs calls on a session with some entries, and checks that its row is unchanged.
async fn unchanged<F, Fut>(entries: &[(&str, &str)], calls: F)
where
    F: FnMut(Session, u32) -> Fut + Send,
    Fut: Future<Output = Result<(), Trap>> + Send,
{
    let fixture = SessionFixture::new();
    let id = fixture.make(None, entries);
    let before = fixture.data(&id).await;
    let calls: Guest<F> = guest(calls);
    assert_eq!(
        answered(fixture.request(&id, calls).await).1,
        CookieChange::Keep
    );
    assert_eq!(fixture.data(&id).await, before);
    assert_eq!(fixture.counters().commits.get(), 0);
}

#[tokio::test]
async fn a_value_that_is_not_json_is_refused() {
    unchanged(&[("a", "1")], |session, _| async move {
        for text in [
            "",
            " ",
            "hello",
            "'a'",
            "{",
            "{\"a\":}",
            "[1,]",
            "01",
            "1 2",
            "undefined",
            "NaN",
            "\"",
            "\"\n\"",
            "nul",
            "{a:1}",
            "\"\\x\"",
        ] {
            let why = complaint(session.set("a", text).await);
            assert!(why.starts_with("`a`: "), "{text:?}: {why}");
        }
        let depth = SESSION_VALUE_DEPTH_MAX + 1;
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(complaint(session.set("a", &deep).await).contains("deep"));
        assert_eq!(session.get("a").await?.as_deref(), Some("1"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn every_json_text_is_kept_byte_for_byte() {
    let deep = "[".repeat(SESSION_VALUE_DEPTH_MAX) + &"]".repeat(SESSION_VALUE_DEPTH_MAX);
    let texts = [
        "null",
        "true",
        "0",
        "-0",
        "1e400",
        "1.50",
        "9007199254740993",
        "\"\"",
        "\"\\ud83d\"",
        "\"Zo\u{eb} \u{1f606}\"",
        "[ 1 , {\"a\" : null} ]",
        "{\"a\":1,\"a\":2}",
        &deep,
    ];
    let fixture = SessionFixture::new();
    for text in texts {
        let set = guest(|session, _| async move {
            session.set("a", &format!(" \n{text}\t")).await?;
            Ok(session.get("a").await?)
        });
        let (read, cookie) = answered(fixture.first_request(set).await);
        assert_eq!(
            read.as_deref(),
            Some(text),
            "without the white space around it"
        );
        let id = super::fixture::set_for(&cookie);
        assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some(text));
    }
}

#[tokio::test]
async fn reserved_keys_are_refused_on_write_and_absent_on_read() {
    for key in [
        "cookie",
        "id",
        "req",
        "save",
        "touch",
        "__proto__",
        "toString",
    ] {
        unchanged(&[("a", "1")], |session, _| async move {
            assert!(complaint(session.set(key, "1").await).contains(key));
            assert!(complaint(session.add(key, 1).await).contains("reserved"));
            assert!(is_invalid(&session.increment(key, 1).await));
            assert!(is_invalid(&session.delete(key).await));
            assert_eq!(session.get(key).await?, None);
            assert_eq!(session.list_keys().await?, ["a"]);
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn adding_to_a_value_that_is_not_an_integer_is_refused() {
    for text in [
        "\"5\"",
        "1.5",
        "true",
        "null",
        "{}",
        "[1]",
        "1e400",
        "9223372036854775808",
        "1e-1",
    ] {
        unchanged(&[("a", text)], |session, _| async move {
            let why = complaint(session.add("a", 1).await);
            assert!(why.contains("not an integer"), "{text}: {why}");
            assert!(is_invalid(&session.increment("a", 0).await));
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn sums_that_do_not_fit_in_64_bits_are_refused() {
    for (start, delta) in [(i64::MAX, 1), (i64::MIN, -1), (1, i64::MAX), (-2, i64::MIN)] {
        let text = start.to_string();
        unchanged(&[("a", text.as_str())], |session, _| async move {
            let why = complaint(session.add("a", delta).await);
            assert!(why.contains("64 bits"), "{start} + {delta}: {why}");
            assert!(is_invalid(&session.increment("a", delta).await));
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn sums_are_exact() {
    let fixture = SessionFixture::new();
    let max = i64::MAX;
    for (start, delta, sum) in [
        (None, 5, 5),
        (None, 0, 0),
        (Some("1.0"), 1, 2),
        (Some("1e3"), -1, 999),
        (Some("-0"), 0, 0),
        (Some("9223372036854775806"), 1, max),
        (Some("-1"), i64::MIN + 1, i64::MIN),
        (Some("9007199254740993"), 1, 9_007_199_254_740_994),
    ] {
        let sums = guest(|session, _| async move {
            if let Some(start) = start {
                session.set("a", start).await?;
                session.set("b", start).await?;
            }
            session.add("b", delta).await?;
            let incremented = session.increment("a", delta).await?;
            Ok((incremented, session.get("b").await?))
        });
        let told = answered(fixture.first_request(sums).await).0;
        assert_eq!(told, (sum, Some(sum.to_string())), "{start:?} + {delta}");
    }
}

#[tokio::test]
async fn keys_are_listed_in_the_order_they_were_written() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("b", "1"), ("a", "2"), ("c", "3")]);
    let keys = guest(|session, _| async move {
        session.set("b", "9").await?;
        session.delete("a").await?;
        session.delete("absent").await?;
        session.set("a", "8").await?;
        session.set("7", "7").await?;
        Ok(session.list_keys().await?)
    });
    assert_eq!(
        answered(fixture.request(&id, keys).await).0,
        ["b", "c", "a", "7"]
    );
    let data = fixture.data(&id).await.expect("a row");
    assert!(
        data.ends_with("},\"b\":9,\"c\":3,\"a\":8,\"7\":7}"),
        "{data}"
    );
}

#[tokio::test]
async fn clear_leaves_the_session_and_its_cookie() {
    let fixture = SessionFixture::new();
    let id = fixture.make(Some(60_000), &[("a", "1"), ("b", "2")]);
    let clear = guest(|session, _| async move {
        session.clear().await?;
        Ok((session.list_keys().await?, session.cookie().await?))
    });
    let ((keys, cookie), change) = answered(fixture.request(&id, clear).await);
    assert_eq!((keys.len(), cookie.original_max_age_ms), (0, Some(60_000)));
    assert_eq!(super::fixture::set_for(&change), id);
    let data = fixture.data(&id).await.expect("a row");
    assert!(
        data.starts_with("{\"cookie\":{") && data.ends_with("}}"),
        "{data}"
    );
}

#[tokio::test]
async fn the_cookie_call_returns_the_changes_of_the_same_run() {
    let fixture = SessionFixture::new();
    let id = fixture.make(Some(60_000), &[]);
    fixture.clock.advance(20_000);
    let look = guest(|session, _| async move {
        let loaded = session.cookie().await?;
        session.touch().await?;
        let touched = session.cookie().await?;
        session.set_max_age(Some(5_000)).await?;
        let changed = session.cookie().await?;
        session.set_max_age(None).await?;
        let unlimited = session.cookie().await?;
        session.regenerate().await?;
        let regenerated = session.cookie().await?;
        Ok([loaded, touched, changed, unlimited, regenerated])
    });
    let ages = answered(fixture.request(&id, look).await).0;
    let ages = ages.map(|cookie| (cookie.original_max_age_ms, cookie.expires_at_ms));
    let minute = Some(60_000);
    let expected = [
        (minute, Some(NOW_MS + 60_000)),
        (minute, Some(NOW_MS + 80_000)),
        (Some(5_000), Some(NOW_MS + 25_000)),
        (None, None),
        (None, None),
    ];
    assert_eq!(ages, expected);
}

#[tokio::test]
async fn an_expiry_that_no_row_can_store_is_refused() {
    let last_ms = i64::from(u32::MAX) * 1_000;
    unchanged(&[("a", "1")], |session, _| async move {
        for ms in [i64::MAX, i64::MIN, -NOW_MS - 501, last_ms - NOW_MS + 500] {
            assert!(is_invalid(&session.set_max_age(Some(ms)).await), "{ms}");
        }
        Ok(())
    })
    .await;
    for ms in [-NOW_MS, last_ms - NOW_MS + 499] {
        let fixture = SessionFixture::new();
        let id = fixture.make(None, &[("a", "1")]);
        let change = guest(|session, _| async move { Ok(session.set_max_age(Some(ms)).await?) });
        answered(fixture.request(&id, change).await);
        let ends_at_s = fixture.row(&id).await.expect("a row").expires_at_s;
        assert_eq!(ends_at_s, if ms < 0 { 0 } else { i64::from(u32::MAX) });
    }
}

#[tokio::test]
async fn a_fingerprint_names_the_session_and_is_no_credential() {
    let fixture = SessionFixture::new();
    let (id, other) = (fixture.make(None, &[]), fixture.make(None, &[]));
    let name = |id| {
        let reader = guest(|session, _| async move { Ok(session.fingerprint().await?) });
        let request = fixture.request(id, reader);
        async move { answered(request.await).0.expect("a session with a row") }
    };
    let told = name(&id).await;
    assert_eq!(told, name(&id).await);
    assert_ne!(told, name(&other).await);
    assert!(!told.contains(id.as_str()) && !id.as_str().contains(&told));
    assert!(!keys().sign(&id).contains(&told));
}

/// Makes every call that changes something, and `reload`.
async fn changes(session: &Session) -> Vec<Result<(), SessionCallError>> {
    vec![
        session.set("a", "9").await,
        session.delete("a").await,
        session.add("n", 1).await,
        session.increment("n", 1).await.map(drop),
        session.clear().await,
        session.renew().await,
        session.regenerate().await,
        session.destroy().await,
        session.unset().await,
        session.save().await,
        session.reload().await,
        session.touch().await,
        session.set_max_age(None).await,
    ]
}

#[tokio::test]
async fn once_released_a_session_is_read_only() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1"), ("n", "1")]);
    let kept = Mutex::new(None);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let kept = &kept;
            async move {
                session.set("a", "2").await?;
                *kept.lock() = Some(session);
                Ok(())
            }
        }),
    );
    answered(outcome.await);
    let session = kept.lock().take().expect("the guest's handle");
    let after_commit = fixture.data(&id).await;
    for (n, told) in changes(&session).await.into_iter().enumerate() {
        assert_eq!(
            told,
            Err(SessionCallError::Guest(SessionError::Committed)),
            "the {n}th"
        );
    }
    assert_eq!(session.get("a").await.unwrap().as_deref(), Some("2"));
    assert_eq!(session.list_keys().await.unwrap(), ["a", "n"]);
    assert_eq!(
        session.fingerprint().await.unwrap(),
        Some(keys().fingerprint(&id))
    );
    session.cookie().await.unwrap();
    assert_eq!(fixture.data(&id).await, after_commit);
    assert_eq!(fixture.counters().commits.get(), 1);
}

#[tokio::test]
async fn changes_before_the_freeze_are_committed_and_later_ones_refused() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1"), ("n", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move {
            session.set("a", "2").await?;
            session.freeze();
            let told = changes(&session).await;
            Ok(told
                .iter()
                .all(|told| *told == Err(SessionError::Committed.into())))
        }),
    );
    assert!(answered(outcome.await).0);
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("2"));
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("1"));
}
