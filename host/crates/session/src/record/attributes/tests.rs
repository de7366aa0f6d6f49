//! The cookie object against rows of the reference implementation.

use super::*;

fn stored(text: &str) -> StoredCookieObject {
    StoredCookieObject::parse(Bytes::copy_from_slice(text.as_bytes())).expect("an object")
}

#[test]
fn the_least_cookie_is_written_as_express_writes_it() {
    assert_eq!(
        StoredCookieObject::new(&CookieAttributes::default()).as_json(),
        r#"{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}"#
    );
}

#[test]
fn a_cookie_with_every_attribute_is_written_in_expresss_order() {
    let attributes = CookieAttributes {
        original_max_age_ms: Some(3_600_000),
        expires_at_ms: Some(1_795_417_639_380),
        path: "/a\"b".to_owned(),
        domain: Some("example.com".to_owned()),
        http_only: false,
        secure: true,
        same_site: Some(SameSite::Lax),
        partitioned: true,
        priority: Some(Priority::High),
    };
    let cookie = StoredCookieObject::new(&attributes);
    assert_eq!(
        cookie.as_json(),
        concat!(
            r#"{"originalMaxAge":3600000,"partitioned":true,"priority":"high","#,
            r#""expires":"2026-11-23T07:07:19.380Z","secure":true,"httpOnly":false,"domain":"example.com","#,
            r#""path":"/a\"b","sameSite":"lax"}"#
        )
    );
    assert_eq!(stored(cookie.as_json()), cookie);
}

#[test]
fn the_rows_of_a_real_express_are_read() {
    let all = stored(concat!(
        r#"{"originalMaxAge":3600000,"partitioned":true,"priority":"high","#,
        r#""expires":"2026-11-23T07:07:19.380Z","secure":false,"httpOnly":true,"domain":"example.com","#,
        r#""path":"/","sameSite":"lax"}"#
    ));
    assert_eq!(
        all.attributes(),
        &CookieAttributes {
            original_max_age_ms: Some(3_600_000),
            expires_at_ms: Some(1_795_417_639_380),
            domain: Some("example.com".to_owned()),
            same_site: Some(SameSite::Lax),
            partitioned: true,
            priority: Some(Priority::High),
            ..CookieAttributes::default()
        }
    );
    let without_expiry =
        stored(r#"{"originalMaxAge":false,"expires":false,"httpOnly":true,"path":"/"}"#);
    assert_eq!(without_expiry.attributes(), &CookieAttributes::default());
    assert_eq!(stored("{}").attributes(), &CookieAttributes::default());
}

#[test]
fn invalid_members_count_as_absent_and_unknown_ones_are_ignored() {
    let odd = stored(
        r#"{"originalMaxAge":1e400,"expires":"soon","path":null,"domain":"","httpOnly":0,"secure":"auto",
            "sameSite":"sideways","priority":7,"partitioned":null,"x":"\ud83d","\udc00":1,"data":{}}"#,
    );
    assert_eq!(
        odd.attributes(),
        &CookieAttributes {
            path: String::new(),
            http_only: false,
            secure: true,
            ..CookieAttributes::default()
        }
    );
    let other = stored(r#"{"expires":1795417639380.9,"sameSite":true,"priority":"LOW"}"#);
    assert_eq!(other.attributes().expires_at_ms, Some(1_795_417_639_380));
    assert_eq!(other.attributes().same_site, Some(SameSite::Strict));
    assert_eq!(other.attributes().priority, Some(Priority::Low));
    assert_eq!(
        stored(r#"{"sameSite":"NONE"}"#).attributes().same_site,
        Some(SameSite::None)
    );
    assert_eq!(stored(r#"{"sameSite":false}"#).attributes().same_site, None);
    assert_eq!(
        stored(r#"{"originalMaxAge":-1}"#)
            .attributes()
            .original_max_age_ms,
        Some(-1)
    );
}

#[test]
fn only_an_object_is_a_cookie() {
    for text in ["null", "[]", "1", "\"x\"", "{", ""] {
        assert!(
            StoredCookieObject::parse(Bytes::copy_from_slice(text.as_bytes())).is_none(),
            "{text}"
        );
    }
}

#[test]
fn a_new_expiry_changes_two_members_and_no_other_byte() {
    let mut cookie = stored(
        "{ \"x\":\"\\ud83d\", \"\\u0065xpires\" : null ,\"originalMaxAge\":60000, \"sameSite\":\"LAX\" }",
    );
    cookie.set_expiry(Some(90_000), Some(1_795_414_097_083));
    assert_eq!(
        cookie.as_json(),
        "{ \"x\":\"\\ud83d\", \"\\u0065xpires\" : \"2026-11-23T06:08:17.083Z\" ,\"originalMaxAge\":90000, \"sameSite\":\"LAX\" }"
    );
    assert_eq!(stored(cookie.as_json()), cookie);
    cookie.set_expiry(None, None);
    assert_eq!(
        cookie.as_json(),
        "{ \"x\":\"\\ud83d\", \"\\u0065xpires\" : null ,\"originalMaxAge\":null, \"sameSite\":\"LAX\" }"
    );
    assert_eq!(stored(cookie.as_json()), cookie);
}

#[test]
fn an_expiry_that_means_the_same_keeps_its_bytes() {
    for text in [
        r#"{"originalMaxAge":false,"expires":false}"#,
        r#"{"expires":"soon"}"#,
        "{}",
    ] {
        let mut cookie = stored(text);
        cookie.set_expiry(None, None);
        assert_eq!(cookie.as_json(), text);
    }
    let text = r#"{"originalMaxAge":6e4,"expires":"2026-11-23T06:08:17Z"}"#;
    let mut cookie = stored(text);
    cookie.set_expiry(Some(60_000), Some(1_795_414_097_000));
    assert_eq!(cookie.as_json(), text);
}

#[test]
fn a_missing_expiry_is_added_and_of_a_double_one_the_last_changes() {
    let mut empty = stored("{ }");
    empty.set_expiry(Some(1), Some(0));
    assert_eq!(
        empty.as_json(),
        r#"{ "originalMaxAge":1,"expires":"1970-01-01T00:00:00.000Z"}"#
    );
    let mut double = stored(r#"{"originalMaxAge":1,"path":"/","originalMaxAge":2}"#);
    double.set_expiry(Some(1), None);
    assert_eq!(
        double.as_json(),
        r#"{"originalMaxAge":1,"path":"/","originalMaxAge":1}"#
    );
}

#[test]
fn debug_shows_attributes_and_no_foreign_member() {
    let shown = format!("{:?}", stored(r#"{"path":"/p","x":"hunter2"}"#));
    assert!(
        shown.contains("\"/p\"") && !shown.contains("hunter2"),
        "{shown}"
    );
}
