//! Cookie headers as browsers, proxies and attackers send them.

use super::super::Secret;
use super::*;

const NAME: &str = "connect.sid";

fn ring() -> KeyRing {
    KeyRing::new(vec![Secret::new(b"keyboard cat".to_vec())]).expect("usable")
}

fn id(text: &str) -> SessionId {
    SessionId::from_foreign(text).expect("a usable id")
}

fn headers(cookies: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    for cookie in cookies {
        headers.append(COOKIE, HeaderValue::from_str(cookie).expect("a header"));
    }
    headers
}

/// Returns the remaining `Cookie` headers and the removed values.
fn take(cookies: &[&str]) -> (Vec<String>, PresentedCookies) {
    let mut headers = headers(cookies);
    let presented = take_from(&mut headers, NAME);
    assert_eq!(headers["accept"], "*/*");
    let left = headers.get_all(COOKIE).iter();
    let left = left.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    (left.collect(), presented)
}

#[test]
fn session_cookie_pairs_are_removed_and_others_stay_byte_for_byte() {
    for (cookie, left) in [
        ("connect.sid=x", None),
        ("connect.sid=x;", None),
        (" ; connect.sid=x ; ", None),
        ("connect.sid=x; connect.sid=y", None),
        ("a=1; connect.sid=x; b=2", Some("a=1; b=2")),
        ("connect.sid=x; a=1", Some("a=1")),
        ("a=1; connect.sid=x", Some("a=1")),
        ("a=1;connect.sid=x;b=2", Some("a=1;b=2")),
        (
            "connect.sid=x;a = \"1\" ;odd;;=v",
            Some("a = \"1\" ;odd;;=v"),
        ),
        ("\tconnect.sid\t= \"x\" ; a=%zz", Some("a=%zz")),
        ("a=\"1; connect.sid=x; 2\"", Some("a=\"1; 2\"")),
        ("connect.sid=x; a=\u{e9}", Some("a=\u{e9}")),
    ] {
        let (after, presented) = take(&[cookie]);
        assert_eq!(after, left.into_iter().collect::<Vec<_>>(), "{cookie}");
        assert!(!presented.is_empty());
    }
}

#[test]
fn cookies_of_other_names_are_left_unchanged() {
    for cookie in [
        "a=1",
        "",
        ";;",
        " connect.sid ; a",
        "Connect.Sid=x",
        "connect.sid2=x",
        "a=connect.sid=x",
        "=connect.sid=x",
        "connect%2Esid=x",
        "\u{a0}connect.sid=x",
        "\u{2000}connect.sid=x",
        "$Version=1, connect.sid=x",
        "\"connect.sid\"=x",
    ] {
        let (after, presented) = take(&[cookie]);
        assert_eq!(after, [cookie]);
        assert!(presented.is_empty());
        assert_eq!(presented.resolve(&ring()), CookieResolution::Absent);
    }
}

#[test]
fn several_headers_keep_their_order_and_the_empty_ones_go() {
    let (after, presented) = take(&["a=1", "connect.sid=x", "b=2; connect.sid=y", "c=3"]);
    assert_eq!(after, ["a=1", "b=2", "c=3"]);
    assert_eq!(presented.values.len(), 2);
    assert!(take(&[]).1.is_empty());
}

#[test]
fn a_header_marked_sensitive_stays_so() {
    let mut headers = HeaderMap::new();
    let mut cookie = HeaderValue::from_static("a=1; connect.sid=x");
    cookie.set_sensitive(true);
    headers.insert(COOKIE, cookie);
    take_from(&mut headers, NAME);
    assert_eq!(headers[COOKIE], "a=1");
    assert!(headers[COOKIE].is_sensitive());
}

#[test]
fn one_valid_cookie_is_found_among_bad_ones_in_any_place() {
    let good = format!("connect.sid={}", ring().sign(&id("apple")));
    for cookies in [
        vec![good.as_str()],
        vec!["connect.sid=evil", &good],
        vec![&good, "connect.sid=evil"],
        vec!["connect.sid=; connect.sid=s%3Aapple.x", "a=1", &good],
        vec![&good, &good],
    ] {
        let (_, presented) = take(&cookies);
        assert_eq!(
            presented.resolve(&ring()),
            CookieResolution::Valid(id("apple"))
        );
    }
}

#[test]
fn spaces_and_quotes_around_a_value_do_not_matter() {
    let value = ring().sign(&id("apple"));
    for cookie in [
        format!("connect.sid =\t{value} "),
        format!("a=1;connect.sid=\"{value}\""),
    ] {
        let (_, presented) = take(&[&cookie]);
        assert_eq!(
            presented.resolve(&ring()),
            CookieResolution::Valid(id("apple"))
        );
    }
}

#[test]
fn valid_cookies_of_different_sessions_are_all_named_once_and_in_order() {
    let (one, two) = (ring().sign(&id("apple")), ring().sign(&id("pear")));
    for (cookies, ids) in [
        (
            vec![format!("connect.sid={one}; connect.sid={two}")],
            ["apple", "pear"],
        ),
        (
            vec![format!("connect.sid={two}"), format!("connect.sid={one}")],
            ["pear", "apple"],
        ),
        (
            vec![format!(
                "connect.sid={two}; connect.sid=evil; connect.sid={one}; connect.sid=\"{one}\"; connect.sid=\"{two}\""
            )],
            ["pear", "apple"],
        ),
    ] {
        let cookies: Vec<_> = cookies.iter().map(String::as_str).collect();
        let expected = CookieResolution::Several(ids.map(id).to_vec());
        assert_eq!(take(&cookies).1.resolve(&ring()), expected);
    }
}

#[test]
fn as_many_valid_ids_as_there_are_values_are_named() {
    let cookies: Vec<String> = (0..VALUES_MAX)
        .map(|n| format!("connect.sid={}", ring().sign(&id(&format!("id{n}")))))
        .collect();
    let (_, presented) = take(&[&cookies.join("; ")]);
    match presented.resolve(&ring()) {
        CookieResolution::Several(ids) => assert_eq!(ids.len(), VALUES_MAX),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_spellings_and_two_secrets_of_one_session_are_one() {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let old = KeyRing::new(vec![secret("old")])
        .unwrap()
        .sign(&id("apple"));
    let ring = KeyRing::new(vec![secret("new"), secret("old")]).unwrap();
    let new = ring.sign(&id("apple"));
    let cookie = format!("connect.sid={old}; connect.sid={new}; connect.sid=\"{new}\"");
    assert_eq!(
        take(&[&cookie]).1.resolve(&ring),
        CookieResolution::Valid(id("apple"))
    );
}

#[test]
fn bad_cookies_are_invalid_and_not_absent() {
    for cookie in ["connect.sid=", "connect.sid=x", "connect.sid=\u{e9}"] {
        assert_eq!(
            take(&[cookie]).1.resolve(&ring()),
            CookieResolution::Invalid
        );
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        COOKIE,
        HeaderValue::from_bytes(b"connect.sid=\xff; a=\xff").unwrap(),
    );
    let presented = take_from(&mut headers, NAME);
    assert_eq!(presented.resolve(&ring()), CookieResolution::Invalid);
    assert_eq!(headers[COOKIE].as_bytes(), b"a=\xff");
}

#[test]
fn too_many_session_cookies_are_removed_and_not_verified() {
    let good = format!("connect.sid={}", ring().sign(&id("apple")));
    let junk = |count: usize| {
        (0..count)
            .map(|n| format!("; connect.sid={n}"))
            .collect::<String>()
    };
    let (_, presented) = take(&[&format!("{good}{}", junk(VALUES_MAX - 1))]);
    assert_eq!(
        presented.resolve(&ring()),
        CookieResolution::Valid(id("apple"))
    );
    let (after, presented) = take(&[&format!("{good}{}; a=1", junk(10_000))]);
    assert_eq!(after, ["a=1"]);
    assert_eq!(presented.values.len(), VALUES_MAX);
    assert_eq!(
        presented.resolve(&ring()),
        CookieResolution::Several(Vec::new())
    );
    let (_, presented) = take(&[&format!("{good};").repeat(10_000)]);
    assert_eq!(
        presented.resolve(&ring()),
        CookieResolution::Valid(id("apple"))
    );
}

#[test]
fn debug_shows_no_value_and_no_id() {
    let value = ring().sign(&id("apple"));
    let (_, presented) = take(&[&format!("connect.sid={value}")]);
    let shown = format!("{presented:?} {:?}", presented.resolve(&ring()));
    assert!(
        !shown.contains("apple") && !shown.contains(&value),
        "{shown}"
    );
}

/// All hosts of a deployment must compute the same hash, so a release must not change it.
#[test]
fn the_hash_of_the_values_is_the_same_in_every_release() {
    for (cookie, hash) in [
        ("a=1; connect.sid=s%3Aapple.sig", 0x5ff0_3630_62fa_11e7),
        ("connect.sid=a; connect.sid=bc", 0x3faf_a1cf_2f19_a7c1),
        ("connect.sid=ab; connect.sid=c", 0x601d_5476_e2cc_fe2c),
    ] {
        assert_eq!(take(&[cookie]).1.fixed_hash(), hash, "{cookie}");
    }
}
