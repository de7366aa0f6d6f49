//! The size limits of a session, to the byte and to the key.

use super::super::{SessionCallError, SessionError, SessionOptions};
use super::fixture::{SessionFixture, set_for};
use super::guest::{answered, guest};
use cloakroom_base::limits::{SESSION_BYTES_MAX, SESSION_KEY_BYTES_MAX, SESSION_KEYS_MAX};

const TOO_LARGE: SessionCallError = SessionCallError::Guest(SessionError::TooLarge(65_536));

/// Returns a string as a JSON text of `bytes` bytes, including the quotes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// Creates a session whose row has `bytes` bytes; its key `fill` pads it.
async fn sized(
    fixture: &SessionFixture,
    bytes: usize,
    entries: &[(&str, &str)],
) -> crate::record::SessionId {
    let mut entries = entries.to_vec();
    entries.push(("fill", "\"\""));
    let probe = fixture.make(None, &entries);
    let length = fixture.data(&probe).await.expect("a row").len();
    let fill = text(bytes - length + 2);
    entries.pop();
    entries.push(("fill", &fill));
    let id = fixture.make(None, &entries);
    assert_eq!(fixture.data(&id).await.expect("a row").len(), bytes);
    id
}

#[tokio::test]
async fn a_session_of_65536_bytes_fits_and_one_more_does_not() {
    assert_eq!(SESSION_BYTES_MAX, 65_536);
    let fixture = SessionFixture::new();
    let id = sized(&fixture, 60_000, &[]).await;
    let fill_bytes = fixture.entry(&id, "fill").await.expect("an entry").len();
    let room = SESSION_BYTES_MAX - 60_000;
    let grow = guest(|session, _| async move {
        let over = session.set("fill", &text(fill_bytes + room + 1)).await;
        let unchanged = session.get("fill").await?;
        session.set("fill", &text(fill_bytes + room)).await?;
        Ok((over, unchanged.map(|text| text.len())))
    });
    let told = answered(fixture.request(&id, grow).await).0;
    assert_eq!(told, (Err(TOO_LARGE), Some(fill_bytes)));
    let stored = fixture.data(&id).await.expect("a row").len();
    assert_eq!(stored, SESSION_BYTES_MAX);
}

#[tokio::test]
async fn a_new_entry_counts_with_its_key_its_comma_and_its_escapes() {
    let fixture = SessionFixture::new();
    // A key, and its length in JSON, in bytes.
    let control = "\u{1}".repeat(SESSION_KEY_BYTES_MAX);
    let cases = [
        ("k", 3),
        ("\"\"", 6),
        ("\u{1f606}", 6),
        (control.as_str(), 6 * SESSION_KEY_BYTES_MAX + 2),
    ];
    for (key, key_bytes) in cases {
        let needed = key_bytes + ":1,".len();
        for (free, fits) in [(needed, true), (needed - 1, false)] {
            let id = sized(&fixture, SESSION_BYTES_MAX - free, &[]).await;
            let add = guest(|session, _| async move { Ok(session.set(key, "1").await) });
            let told = answered(fixture.request(&id, add).await).0;
            let expected = if fits { Ok(()) } else { Err(TOO_LARGE) };
            assert_eq!(told, expected, "a key of {key_bytes} bytes");
            let stored = fixture.data(&id).await.expect("a row").len();
            assert!(
                stored <= SESSION_BYTES_MAX,
                "a key of {key_bytes} bytes: {stored}"
            );
            assert_eq!(
                stored == SESSION_BYTES_MAX,
                fits,
                "a key of {key_bytes} bytes: {stored}"
            );
        }
    }
}

#[tokio::test]
async fn a_sum_that_is_a_digit_longer_counts_too() {
    let fixture = SessionFixture::new();
    let id = sized(&fixture, SESSION_BYTES_MAX, &[("n", "9"), ("m", "8")]).await;
    let add = guest(|session, _| async move {
        session.add("m", 1).await?;
        let refused = (session.add("n", 1).await, session.increment("n", 1).await);
        Ok((refused, session.get("n").await?))
    });
    let told = answered(fixture.request(&id, add).await).0;
    assert_eq!(told.0, (Err(TOO_LARGE), Err(TOO_LARGE)));
    assert_eq!(told.1.as_deref(), Some("9"));
}

#[tokio::test]
async fn a_new_max_age_counts_towards_the_session_size() {
    let fixture = SessionFixture::new();
    let id = sized(&fixture, SESSION_BYTES_MAX, &[]).await;
    let change = guest(|session, _| async move { Ok(session.set_max_age(Some(5_000)).await) });
    let told = answered(fixture.request(&id, change).await).0;
    assert_eq!(told, Err(TOO_LARGE));
    let stored = fixture.data(&id).await.expect("a row").len();
    assert_eq!(stored, SESSION_BYTES_MAX);
}

#[tokio::test]
async fn a_session_made_too_large_by_another_program_can_be_read_and_shrunk() {
    let fixture = SessionFixture::new();
    let id = sized(&fixture, SESSION_BYTES_MAX + 1_000, &[("a", "100")]).await;
    let fill_bytes = fixture.entry(&id, "fill").await.expect("an entry").len();
    let shrink = guest(|session, _| async move {
        assert_eq!(session.get("a").await?.as_deref(), Some("100"));
        assert_eq!(session.set("a", "1000").await, Err(TOO_LARGE));
        session.set("a", "999").await?;
        session.set("fill", &text(fill_bytes - 1)).await?;
        session.delete("a").await?;
        Ok(())
    });
    answered(fixture.request(&id, shrink).await);
    let stored = fixture.data(&id).await.expect("a row").len();
    assert_eq!(stored, SESSION_BYTES_MAX + 1_000 - 1 - ",\"a\":100".len());
}

#[tokio::test]
async fn a_session_has_256_keys_and_no_more() {
    assert_eq!(SESSION_KEYS_MAX, 256);
    let fixture = SessionFixture::new();
    let fill = guest(|session, _| async move {
        for n in 0..256 {
            session.set(&format!("k{n}"), "1").await?;
        }
        let full = [
            session.set("one-more", "1").await,
            session.add("one-more", 1).await,
            session.increment("one-more", 1).await.map(drop),
        ];
        session.set("k7", "2").await?;
        session.add("k8", 1).await?;
        session.delete("k9").await?;
        session.set("one-more", "1").await?;
        Ok(full)
    });
    let (full, cookie) = answered(fixture.first_request(fill).await);
    for told in full {
        let Err(SessionCallError::Guest(SessionError::Invalid(why))) = told else {
            panic!("{told:?}");
        };
        assert!(why.contains("at most 256 keys"), "{why}");
    }
    let id = set_for(&cookie);
    assert_eq!(fixture.entry(&id, "one-more").await.as_deref(), Some("1"));
    assert_eq!(fixture.entry(&id, "k9").await, None);
}

#[tokio::test]
async fn a_key_has_1_to_256_bytes() {
    assert_eq!(SESSION_KEY_BYTES_MAX, 256);
    let fixture = SessionFixture::new();
    for (key, is_key) in [
        (String::new(), false),
        ("k".to_owned(), true),
        ("k".repeat(256), true),
        ("k".repeat(257), false),
        ("\u{eb}".repeat(128), true),
        ("\u{eb}".repeat(128) + "k", false),
    ] {
        let key = key.as_str();
        let calls = guest(|session, _| async move {
            let told = [
                session.set(key, "1").await,
                session.add(key, 1).await,
                session.increment(key, 1).await.map(drop),
            ];
            let seen = session.get(key).await?;
            Ok((told, seen, session.delete(key).await))
        });
        let (told, seen, deleted) = answered(fixture.first_request(calls).await).0;
        for told in told.into_iter().chain([deleted]) {
            let is_refused = matches!(told, Err(SessionCallError::Guest(SessionError::Invalid(_))));
            assert_eq!(is_refused, !is_key, "{} bytes: {told:?}", key.len());
        }
        assert_eq!(seen.as_deref(), is_key.then_some("3"));
    }
    assert_eq!(fixture.rows(), 0, "each took its key out again");
}

#[tokio::test]
async fn the_limits_of_a_session_are_taken_from_the_options() {
    let fixture = SessionFixture::with(SessionOptions {
        session_bytes_max: 200,
        keys_max: 2,
        key_bytes_max: 3,
        ..SessionOptions::default()
    });
    let calls = guest(|session, _| async move {
        session.set("abc", "1").await?;
        session.set("b", "1").await?;
        let told = [
            session.set("abcd", "1").await,
            session.set("c", "1").await,
            session.set("b", &text(190)).await,
        ];
        Ok(told.map(|told| {
            matches!(
                told,
                Err(SessionCallError::Guest(SessionError::TooLarge(200)))
            )
        }))
    });
    let told = answered(fixture.first_request(calls).await).0;
    assert_eq!(told, [false, false, true]);
}
