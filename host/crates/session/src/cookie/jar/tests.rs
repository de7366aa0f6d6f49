//! Reading and writing compared with cookie-parser 1.4.7 and Express 4. `tests/e2e/cookies.rs` compares with the real packages.

use super::super::Secret;
use super::*;
use crate::record::{CookieAttributes, Priority, SameSite};
use cloakroom_base::limits::COOKIE_BYTES_MAX;

/// 2026-11-23T06:08:17.083Z.
const NOW_MS: i64 = 1_795_414_097_083;
const ID: &str = "d7JoW4ib4H6NXslbHLUz1sQTH2aM1msl";

fn ring(secrets: &[&str]) -> Arc<KeyRing> {
    let secrets = secrets.iter().map(|s| Secret::new(s.as_bytes().to_vec()));
    Arc::new(KeyRing::new(secrets.collect()).unwrap())
}

/// Returns a jar whose secrets are those of the session's cookie, `sid`.
fn jar(secrets: &[&str]) -> Arc<CookieJar> {
    let keys = ring(secrets);
    CookieJar::new(
        "sid",
        CookieJarKeys::new(Arc::clone(&keys), &keys, IdComparison::Exact),
        Clock::manual(NOW_MS),
    )
}

/// Returns a jar with its own secrets.
fn jar_apart(own: &[&str], sessions: &[&str]) -> Arc<CookieJar> {
    let keys = CookieJarKeys::new(ring(own), &ring(sessions), IdComparison::Exact);
    CookieJar::new("sid", keys, Clock::manual(NOW_MS))
}

fn read(jar: &CookieJar, header: &[u8]) -> Vec<(String, Option<CookieValue>, bool)> {
    let header = HeaderValue::from_bytes(header).unwrap();
    let cookies = jar.read([&header]);
    let parts = |cookie: RequestCookie| (cookie.name, cookie.value, cookie.is_signed);
    cookies.into_iter().map(parts).collect()
}

/// Returns the only cookie in a header.
fn one(jar: &CookieJar, header: &[u8]) -> (Option<CookieValue>, bool) {
    let mut cookies = read(jar, header);
    assert_eq!(cookies.len(), 1);
    let (_, value, is_signed) = cookies.remove(0);
    (value, is_signed)
}

fn text(text: &str) -> Option<CookieValue> {
    Some(CookieValue::Text(text.to_owned()))
}

fn json(text: &str) -> Option<CookieValue> {
    Some(CookieValue::Json(text.to_owned()))
}

fn attributes() -> CookieAttributes {
    CookieAttributes {
        http_only: false,
        ..CookieAttributes::default()
    }
}

fn written(
    jar: &CookieJar,
    value: Option<CookieValue>,
    is_signed: bool,
) -> Result<String, CookieWriteError> {
    let header = jar.write("c", &value.unwrap(), is_signed, &attributes())?;
    Ok(header.strip_suffix("; Path=/").unwrap().to_owned())
}

#[test]
fn plain_cookies_are_read_as_cookie_parser_reads_them() {
    let jar = jar(&["k"]);
    for (value, expected) in [
        (&b""[..], ""),
        (b"a", "a"),
        (b" \ta b\t ", "a b"),
        (b"a%20b%2B%3B", "a b+;"),
        (b"a+b", "a+b"),
        (b"a=b=c", "a=b=c"),
        (b"100%", "100%"),
        (b"%zz%20", "%zz%20"),
        (b"%ff", "%ff"),
        (b"\"a%20b\"", "a b"),
        (b"\"", ""),
        (b"\"a", "\"a"),
        (b"%22a%22", "\"a\""),
        ("é".as_bytes(), "Ã©"),
        (b"%C3%A9\xe9", "éé"),
        (b"%F0%9F%98%86", "😆"),
        (b"j", "j"),
        (b"J:{}", "J:{}"),
        (b"S:a.b", "S:a.b"),
    ] {
        let header = [b"c=", value].concat();
        assert_eq!(one(&jar, &header), (text(expected), false), "{expected}");
    }
}

#[test]
fn the_first_cookie_of_a_name_wins_and_pairs_without_equals_are_skipped() {
    let jar = jar(&["k"]);
    let cookies = read(
        &jar,
        b" a = 1;b; ;a=2; A=3;=4; __proto__=5;toString=6;\xe9=7",
    );
    let names: Vec<_> = cookies.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["a", "A", "", "toString", "é"]);
    assert_eq!(cookies[0].1, text("1"));

    let headers = ["a=1; b=2", "b=3; c=4"].map(HeaderValue::from_static);
    let cookies = jar.read(&headers);
    let values: Vec<_> = cookies.into_iter().map(|cookie| cookie.value).collect();
    assert_eq!(values, [text("1"), text("2"), text("4")]);
}

#[test]
fn a_json_cookie_is_parsed_only_if_its_value_is_truthy_in_javascript() {
    let jar = jar(&["k"]);
    for truthy in [
        "{}",
        "[]",
        "{\"a\":[1,null]}",
        "1",
        "-1",
        "1e400",
        "\"0\"",
        "\"a\"",
        "true",
        r#""\ud800""#,
        r#"{"a":1,"a":2}"#,
        "\"\u{2028}\"",
    ] {
        let header = format!("c={}", super::super::value::encode(&format!("j:{truthy}")));
        assert_eq!(one(&jar, header.as_bytes()), (json(truthy), false));
    }
    assert_eq!(one(&jar, b"c=j: [1] "), (json("[1]"), false));
    for text_it_is in [
        "j:",
        "j:0",
        "j:-0",
        "j:0.0",
        "j:1e-400",
        "j:\"\"",
        "j:null",
        "j:false",
        "j:undefined",
        "j:{a:1}",
        "j:'a'",
        "j:01",
        "j:[1,]",
        "j:\u{feff}1",
        "j:\"a\nb\"",
        "j:1 2",
        "j:NaN",
    ] {
        let header = format!("c={}", super::super::value::encode(text_it_is));
        assert_eq!(one(&jar, header.as_bytes()), (text(text_it_is), false));
    }
}

#[test]
fn signed_cookies_are_believed_by_any_of_the_secrets_and_shown_as_forged_otherwise() {
    // Signed by cookie-signature 1.0.6 with the secret `s1`.
    let signed: &[u8] = b"c=s%3Aval.xY1PDiLKvnUdMVcs0R2C22YJru1H81kMfOIgX09n%2F3I";
    let signed_json: &[u8] =
        b"c=s%3Aj%3A%7B%22a%22%3A1%7D.DlQo6VRRaRHCr50d8kakKgX6rdJLyGk%2F4GQfQ8vExQo";
    for jar in [jar(&["s1"]), jar(&["new", "s1"])] {
        assert_eq!(one(&jar, signed), (text("val"), true));
        assert_eq!(one(&jar, signed_json), (json("{\"a\":1}"), true));
    }
    let jar = jar(&["other"]);
    assert_eq!(one(&jar, signed), (None, true));
    for forged in [
        &b"c=s:"[..],
        b"c=s:val",
        b"c=s:val.",
        b"c=s:.",
        b"c=s%3Aval.AAAA",
    ] {
        assert_eq!(one(&jar, forged), (None, true));
    }
}

#[test]
fn a_signed_cookie_is_read_back_as_written() {
    let jar = jar(&["s1"]);
    assert_eq!(
        written(&jar, text("val"), true).unwrap(),
        "c=s%3Aval.xY1PDiLKvnUdMVcs0R2C22YJru1H81kMfOIgX09n%2F3I"
    );
    assert_eq!(
        written(&jar, json("{\"a\":1}"), true).unwrap(),
        "c=s%3Aj%3A%7B%22a%22%3A1%7D.DlQo6VRRaRHCr50d8kakKgX6rdJLyGk%2F4GQfQ8vExQo"
    );
    for value in [
        text(""),
        text("a.b.c"),
        text("s:x"),
        text("é😆\0"),
        json("[1]"),
    ] {
        let pair = written(&jar, value.clone(), true).unwrap();
        assert_eq!(one(&jar, pair.as_bytes()), (value, true));
    }
}

#[test]
fn the_number_of_verified_signatures_per_request_is_bounded() {
    let jar = jar(&["k"]);
    let pair = written(&jar, text("v"), true).unwrap();
    let (_, value) = pair.split_once('=').unwrap();
    let pairs: Vec<_> = (0..300).map(|n| format!("c{n}={value}")).collect();
    let cookies = read(&jar, pairs.join(";").as_bytes());
    let believed = cookies.iter().take_while(|(_, value, _)| value.is_some());
    assert_eq!((believed.count(), cookies.len()), (SIGNED_VALUES_MAX, 300));
}

#[test]
fn a_value_like_a_session_id_is_neither_signed_nor_accepted() {
    let shared = jar(&["k", "old"]);
    let by_session = |secret: &str| {
        let id = SessionId::from_foreign(ID).unwrap();
        format!("c={}", ring(&[secret]).sign(&id))
    };
    let denied = written(&shared, text(ID), true).unwrap_err();
    assert_eq!(denied, CookieWriteError::LikeASession);
    assert!(denied.to_string().contains("`[cookies] secrets`"));
    for secret in ["k", "old"] {
        assert_eq!(one(&shared, by_session(secret).as_bytes()), (None, true));
    }
    // Databases that pad texts before comparing them find the row of such a text as well.
    for padded in [format!("{ID} "), format!("{ID}  ")] {
        let denied = written(&shared, text(&padded), true).unwrap_err();
        assert_eq!(denied, CookieWriteError::LikeASession, "{padded:?}");
        let signed = ring(&["old"]).sign_text(&padded);
        let header = format!("c={}", super::super::value::encode(&signed));
        assert_eq!(one(&shared, header.as_bytes()), (None, true), "{padded:?}");
    }
    // Such a text is allowed if it is unsigned, if it has another length, or if it is JSON, which has a colon.
    assert!(written(&shared, text(ID), false).is_ok());
    assert!(written(&shared, text(&ID[1..]), true).is_ok());
    assert!(written(&shared, text(&format!("{} ", &ID[1..])), true).is_ok());
    assert!(written(&shared, text(&format!(" {ID}")), true).is_ok());
    assert!(written(&shared, json(&format!("\"{ID}\"")), true).is_ok());

    let apart = jar_apart(&["own"], &["k", "old"]);
    let pair = written(&apart, text(ID), true).unwrap();
    assert_eq!(one(&apart, pair.as_bytes()), (text(ID), true));
    assert_eq!(one(&apart, by_session("k").as_bytes()), (None, true));

    // One common secret is enough to accept a value that the session's ring has signed.
    let half = jar_apart(&["own", "k"], &["k"]);
    assert_eq!(
        written(&half, text(ID), true),
        Err(CookieWriteError::LikeASession)
    );
    assert_eq!(one(&half, by_session("k").as_bytes()), (None, true));

    half.replace_keys(CookieJarKeys::new(
        ring(&["own"]),
        &ring(&["k"]),
        IdComparison::Exact,
    ));
    assert!(written(&half, text(ID), true).is_ok());
}

#[test]
fn under_a_loose_comparison_of_ids_only_plain_texts_are_signed_with_shared_secrets() {
    let keys = |own: &[&str], ids| CookieJarKeys::new(ring(own), &ring(&["k"]), ids);
    let jar = jar(&["k"]);
    let accented = ID.replace('a', "á");
    for odd in [
        accented.as_str(),
        "ｄ7JoW4ib4H6NXslbHLUz1sQTH2aM1msl",
        "d7JoW4ib4H6NXslbHLUz1sQTH2aM1msl\0",
        "d7JoW4ib4H6NXslbHLUz\u{ad}1sQTH2aM1msl",
        "\u{200b}d7JoW4ib4H6NXslbHLUz1sQTH2aM1msl",
        "\u{7f}",
        "ß",
    ] {
        for (own, ids, is_signed) in [
            ("k", IdComparison::Exact, true),
            ("k", IdComparison::Loose, false),
            ("own", IdComparison::Loose, true),
        ] {
            jar.replace_keys(keys(&[own], ids));
            let outcome = written(&jar, text(odd), true);
            assert_eq!(outcome.is_ok(), is_signed, "{odd:?} {own} {ids:?}");
            assert!(is_signed || outcome == Err(CookieWriteError::MightEqualAnId));
        }
        jar.replace_keys(keys(&["k"], IdComparison::Loose));
        assert!(written(&jar, text(odd), false).is_ok(), "it is not signed");
    }
    assert!(written(&jar, text("plain text, with: signs"), true).is_ok());
    assert!(written(&jar, json("\"á\""), true).is_ok());
    assert_eq!(
        written(&jar, text(ID), true),
        Err(CookieWriteError::LikeASession)
    );
}

#[test]
fn values_and_attributes_are_written_as_express_does() {
    let jar = jar(&["k"]);
    let write = |value: &str, attributes: &CookieAttributes| {
        jar.write("c", &CookieValue::Text(value.to_owned()), false, attributes)
    };
    assert_eq!(
        write("v a+l;ü\"%", &attributes()).unwrap(),
        "c=v%20a%2Bl%3B%C3%BC%22%25; Path=/"
    );
    let all = CookieAttributes {
        original_max_age_ms: Some(61_999),
        expires_at_ms: Some(0),
        path: "/a b".to_owned(),
        domain: Some(".Example.com".to_owned()),
        http_only: true,
        secure: true,
        same_site: Some(SameSite::None),
        partitioned: true,
        priority: Some(Priority::Low),
    };
    assert_eq!(
        write("", &all).unwrap(),
        "c=; Max-Age=61; Domain=.Example.com; Path=/a b; Expires=Mon, 23 Nov 2026 06:09:19 GMT; HttpOnly; Secure; \
         Partitioned; Priority=Low; SameSite=None"
    );
    let cleared = CookieAttributes {
        expires_at_ms: Some(1),
        path: String::new(),
        domain: Some(String::new()),
        ..attributes()
    };
    assert_eq!(
        write("", &cleared).unwrap(),
        "c=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    );
    let past = CookieAttributes {
        original_max_age_ms: Some(-1),
        ..attributes()
    };
    assert_eq!(
        write("", &past).unwrap(),
        "c=; Max-Age=-1; Path=/; Expires=Mon, 23 Nov 2026 06:08:17 GMT"
    );
}

#[test]
fn an_invalid_cookie_is_refused_and_never_quoted() {
    let jar = jar(&["k"]);
    let refused = |name: &str, value: CookieValue, attributes: &CookieAttributes| {
        let error = jar.write(name, &value, false, attributes).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        error
    };
    let plain = || CookieValue::Text(String::new());
    for name in ["", "hunter2 x", "a=b", "a;b", "é", &"x".repeat(257)] {
        assert_eq!(
            refused(name, plain(), &attributes()),
            CookieWriteError::Name
        );
    }
    assert_eq!(
        refused("sid", plain(), &attributes()),
        CookieWriteError::SessionCookie
    );
    let bad_json = refused("c", CookieValue::Json("{hunter2".to_owned()), &attributes());
    assert!(matches!(bad_json, CookieWriteError::Json(_)), "{bad_json}");
    let longest = CookieValue::Text("x".repeat(COOKIE_BYTES_MAX - 1));
    let written = jar.write("c", &longest, false, &attributes()).unwrap();
    let (pair, _) = written.split_once(';').unwrap();
    assert_eq!(pair.len(), COOKIE_BYTES_MAX + "=".len());
    for long in [
        CookieValue::Text("x".repeat(COOKIE_BYTES_MAX)),
        // A third of the limit before it is encoded.
        CookieValue::Text(" ".repeat(COOKIE_BYTES_MAX / 3 + 1)),
        CookieValue::Json(format!("\"{}\"", "x".repeat(COOKIE_BYTES_MAX - 4))),
    ] {
        let too_long = refused("c", long, &attributes());
        assert!(
            matches!(too_long, CookieWriteError::TooLong { .. }),
            "{too_long}"
        );
    }

    let with = |change: fn(&mut CookieAttributes)| {
        let mut attributes = attributes();
        change(&mut attributes);
        attributes
    };
    for (attributes, error) in [
        (
            with(|a| a.domain = Some("hunter2_.com".to_owned())),
            CookieWriteError::Domain,
        ),
        (
            with(|a| a.path = "/hunter2;".to_owned()),
            CookieWriteError::Path,
        ),
        (with(|a| a.path = "/é".to_owned()), CookieWriteError::Path),
        (with(|a| a.expires_at_ms = Some(-1)), CookieWriteError::Time),
        (
            with(|a| a.expires_at_ms = Some(i64::MAX)),
            CookieWriteError::Time,
        ),
        (
            with(|a| a.original_max_age_ms = Some(i64::MAX)),
            CookieWriteError::Time,
        ),
        (
            with(|a| a.original_max_age_ms = Some(i64::MIN)),
            CookieWriteError::Time,
        ),
    ] {
        assert_eq!(refused("c", plain(), &attributes), error);
    }
}

#[test]
fn debug_shows_no_value() {
    let jar = jar(&["hunter2"]);
    let cookies = read(&jar, b"c=hunter2; d=j:[\"hunter2\"]");
    let shown = format!("{jar:?} {cookies:?} {:?}", jar.keys.load());
    assert!(!shown.contains("hunter2"), "{shown}");
}
