//! The document against rows that Express and other programs write.

use super::super::CookieAttributes;
use super::*;

const EXPRESS: &str = concat!(
    r#"{"cookie":{"originalMaxAge":60000,"expires":"2026-11-23T06:08:17.083Z","httpOnly":true,"path":"/"},"#,
    r#""user":{"name":"Zoë 😆","roles":["a","b"]},"n":1}"#
);

fn parse(text: &str) -> Document {
    Document::parse(&Bytes::copy_from_slice(text.as_bytes())).expect("a session")
}

fn corruption(data: &[u8]) -> CorruptDocument {
    Document::parse(&Bytes::copy_from_slice(data)).expect_err("no session")
}

/// Asserts that a document has the same text when it is unchanged and when it is written from its pieces.
fn assert_kept(text: &str) {
    let mut document = parse(text);
    assert_eq!(document.to_json(), text);
    assert_eq!(document.json_len(), text.len());
    document.is_untouched = false;
    assert_eq!(document.to_json(), text);
    assert_eq!(document.json_len(), text.len());
    assert_eq!(document.to_bytes(), text);
}

#[test]
fn a_row_of_express_is_read() {
    let document = parse(EXPRESS);
    assert_eq!(document.keys(), ["user", "n"]);
    assert_eq!(document.key_count(), 2);
    assert_eq!(
        document.get("user"),
        Some(r#"{"name":"Zoë 😆","roles":["a","b"]}"#)
    );
    assert_eq!(document.get("n"), Some("1"));
    assert_eq!(document.get("m"), None);
    assert_eq!(
        document.cookie().attributes().original_max_age_ms,
        Some(60_000)
    );
}

#[test]
fn an_untouched_document_is_the_bytes_that_were_parsed() {
    for text in [
        EXPRESS,
        r#"{"cookie":{}}"#,
        "\n{ \"a\" : 1 ,\t\"cookie\" :\r\n{ } , \"b\":[ 1 , 2 ] }\n ",
        r#"{"a":"x\ud83dz","\udc00":1,"cookie":{},"n":1e400,"m":-0,"k":9007199254740993,"l":1.0}"#,
        r#"{"a":1,"cookie":{"path":"/a"},"a":2,"cookie":{"path":"/b"},"a":3}"#,
        r#"{"\u0061":1,"__proto__":{"x":1},"id":"x","cookie":{},"":0}"#,
        r#"{"cookie":{},"braces":"}{,:\"","deep":{"}":[",",{"cookie":1}]}}"#,
    ] {
        assert_kept(text);
    }
}

#[test]
fn an_untouched_document_copies_nothing() {
    let data = Bytes::from_static(EXPRESS.as_bytes());
    let document = Document::parse(&data).unwrap();
    assert_eq!(document.to_bytes().as_ptr(), data.as_ptr());
}

#[test]
fn setting_one_key_keeps_every_other_byte() {
    let text =
        "{ \"odd\" : \"a\\ud83dz\" ,\"cookie\": {\"path\":\"/\"} ,\"n\" :\t1 , \"big\":1e400 }\n";
    let mut document = parse(text);
    document.set("n", "2");
    assert_eq!(document.to_json(), text.replace("\t1 ", "\t2 "));
    assert_eq!(document.json_len(), text.len());
    document.set("n", "1");
    assert_eq!(document.to_json(), text);
    document.set("new\n\"é", "[]");
    assert_eq!(
        document.to_json(),
        text.replace("e400 }", "e400 ,\"new\\n\\\"é\":[]}")
    );
    assert_eq!(document.json_len(), document.to_json().len());
    assert_eq!(document.get("new\n\"é"), Some("[]"));
    assert_kept(&document.to_json());
}

#[test]
fn deleting_a_key_takes_its_comma_along() {
    for (text, key, left) in [
        (
            r#"{"a":1,"cookie":{},"b":2}"#,
            "a",
            r#"{"cookie":{},"b":2}"#,
        ),
        (
            r#"{"a":1,"cookie":{},"b":2}"#,
            "b",
            r#"{"a":1,"cookie":{}}"#,
        ),
        (
            r#"{"cookie":{}, "a":1 , "b":2 }"#,
            "a",
            r#"{"cookie":{}, "b":2 }"#,
        ),
        (
            r#"{"cookie":{},"a":1,"b":2,"a":3}"#,
            "a",
            r#"{"cookie":{},"b":2}"#,
        ),
    ] {
        let mut document = parse(text);
        assert!(document.delete(key));
        assert_eq!(document.to_json(), left);
        assert_eq!(document.json_len(), left.len());
        assert_eq!(document.get(key), None);
        assert!(!document.delete(key));
    }
}

#[test]
fn clear_keeps_the_cookie_and_the_keys_hidden_from_guests() {
    let mut document = parse(r#"{"a":1,"id":7,"cookie":{},"\ud800":2,"b":3}"#);
    document.clear();
    assert_eq!(document.to_json(), r#"{"id":7,"cookie":{},"\ud800":2}"#);
    assert_eq!(document.key_count(), 0);
    document.set("c", "4");
    assert_eq!(
        document.to_json(),
        r#"{"id":7,"cookie":{},"\ud800":2,"c":4}"#
    );
}

#[test]
fn of_a_key_written_twice_the_last_value_counts_and_a_set_leaves_one() {
    let text = r#"{"a":1,"cookie":{},"b":0,"\u0061":2,"a":3,"b":0}"#;
    let mut document = parse(text);
    assert_eq!(document.get("a"), Some("3"));
    assert_eq!(document.keys(), ["a", "b"]);
    assert_eq!(document.key_count(), 2);
    document.set("a", "3");
    assert_eq!(document.to_json(), text, "it said 3 before");
    document.set("a", "4");
    assert_eq!(document.to_json(), r#"{"a":4,"cookie":{},"b":0,"b":0}"#);
    assert_eq!(document.json_len(), document.to_json().len());
    assert_eq!(document.get("a"), Some("4"));
}

#[test]
fn of_two_cookies_the_last_counts_and_a_set_leaves_one() {
    let mut document = parse(r#"{"cookie":{"path":"/a"},"n":1,"cookie":{"path":"/b"}}"#);
    assert_eq!(document.cookie().attributes().path, "/b");
    let mut cookie = document.cookie().clone();
    cookie.set_expiry(Some(5), None);
    document.set_cookie(cookie);
    assert_eq!(
        document.to_json(),
        r#"{"cookie":{"path":"/b","originalMaxAge":5},"n":1}"#
    );
    assert_eq!(document.json_len(), document.to_json().len());
    assert_eq!(
        corruption(br#"{"cookie":{},"cookie":null}"#),
        CorruptDocument::NoCookie
    );
}

#[test]
fn an_escaped_key_is_matched_in_decoded_form_and_kept_as_written() {
    let mut document = parse(r#"{"cook\u0069e":{"path":"/x"},"\u0061\ud83d\ude06":1}"#);
    assert_eq!(document.cookie().attributes().path, "/x");
    assert_eq!(document.keys(), ["a😆"]);
    document.set("a😆", "2");
    assert_eq!(
        document.to_json(),
        r#"{"cook\u0069e":{"path":"/x"},"\u0061\ud83d\ude06":2}"#
    );
}

#[test]
fn keys_with_lone_surrogates_are_hidden_and_kept() {
    let mut document = parse(r#"{"cookie":{},"\ud83d":1,"\ud83d":2,"x\udc00y":3}"#);
    assert!(document.keys().is_empty());
    assert_eq!(document.get("\u{fffd}"), None);
    assert_eq!(document.get("\"\\ud83d\""), None);
    document.set("\"\\ud83d\"", "4");
    assert_eq!(
        document.to_json(),
        r#"{"cookie":{},"\ud83d":1,"\ud83d":2,"x\udc00y":3,"\"\\ud83d\"":4}"#
    );
    let mut document = parse(&document.to_json());
    document.set("\"\\ud83d\"", "5");
    assert!(
        document
            .to_json()
            .starts_with(r#"{"cookie":{},"\ud83d":1,"\ud83d":2,"#)
    );
    assert!(document.delete("\"\\ud83d\""));
    assert_eq!(
        document.to_json(),
        r#"{"cookie":{},"\ud83d":1,"\ud83d":2,"x\udc00y":3}"#
    );
}

#[test]
fn reserved_keys_are_invisible_untouchable_and_preserved() {
    let text = r#"{"cookie":{},"__proto__":{"a":1},"id":1,"save":2,"toString":3,"ok":4}"#;
    let mut document = parse(text);
    assert_eq!(document.keys(), ["ok"]);
    for key in [
        "cookie",
        "__proto__",
        "id",
        "save",
        "toString",
        "constructor",
    ] {
        assert!(is_reserved_key(key));
        assert_eq!(document.get(key), None);
        assert!(!document.delete(key));
        document.set(key, "9");
    }
    assert_eq!(document.to_json(), text);
    for key in [
        "",
        "Cookie",
        "ID",
        "id ",
        "maxAge",
        "toJSON",
        "sessionID",
        "__proto",
    ] {
        assert!(!is_reserved_key(key), "{key}");
    }
}

#[test]
fn the_same_entries_are_the_same_keys_and_texts_in_the_same_order() {
    let one = parse(r#"{"cookie":{},"a":1,"b":2}"#);
    let mut two = parse(r#"{ "a" : 1, "\u0062":2 , "cookie":{"path":"/else"}}"#);
    assert!(
        one.has_same_entries(&two),
        "cookie, white space and spelling of keys do not count"
    );
    two.set("a", "3");
    assert!(!one.has_same_entries(&two));
    two.set("a", "1");
    assert!(
        one.has_same_entries(&two),
        "a value that was restored is unchanged"
    );
    two.delete("a");
    two.set("a", "1");
    assert!(!one.has_same_entries(&two), "order counts");
    assert!(!one.has_same_entries(&parse(r#"{"cookie":{},"a":1}"#)));
    assert!(!one.has_same_entries(&parse(r#"{"cookie":{},"a":1,"b":2,"id":3}"#)));
}

#[test]
fn a_new_session_is_written_as_express_writes_it() {
    let cookie = StoredCookieObject::new(&CookieAttributes::default());
    let mut document = Document::new(cookie.clone());
    assert!(document.cookie() == &cookie);
    document.set("n", "1");
    assert_eq!(
        document.to_json(),
        r#"{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"n":1}"#
    );
    assert_kept(&document.to_json());
}

#[test]
fn setting_the_cookie_changes_no_other_entry() {
    let mut document = parse(EXPRESS);
    document.set_cookie(document.cookie().clone());
    assert!(document.is_untouched);
    let mut cookie = document.cookie().clone();
    cookie.set_expiry(Some(60_000), Some(1_795_417_639_380));
    document.set_cookie(cookie);
    let expected = EXPRESS.replace("06:08:17.083", "07:07:19.380");
    assert_eq!(document.to_json(), expected);
    assert_eq!(document.json_len(), expected.len());
}

#[test]
fn a_clone_is_independent() {
    let one = parse(EXPRESS);
    let mut two = one.clone();
    two.set("n", "2");
    assert_eq!(one.to_json(), EXPRESS);
}

#[test]
fn a_document_that_express_could_not_load_is_corrupt() {
    use CorruptDocument::{NoCookie, NotAnObject, NotJson, NotUtf8};
    for (data, why) in [
        (&b"{\"cookie\":{},\"a\":\"\xff\"}"[..], NotUtf8),
        (b"", NotJson),
        (b"{\"cookie\":{}", NotJson),
        (b"{\"cookie\":{},}", NotJson),
        (b"{\"cookie\":{}}{}", NotJson),
        (b"{\"cookie\":{},\"a\":01}", NotJson),
        (b"{\"cookie\":{},\"a\":\"\\u12\"}", NotJson),
        (b"{\"cookie\":{},a:1}", NotJson),
        (b"\xef\xbb\xbf{\"cookie\":{}}", NotJson),
        (b"null", NotAnObject),
        (b"[]", NotAnObject),
        (b"\"x\"", NotAnObject),
        (b"{}", NoCookie),
        (b"{\"cookie\":null}", NoCookie),
        (b"{\"cookie\":[]}", NoCookie),
        (b"{\"cookie\":1}", NoCookie),
        (b"{\"Cookie\":{}}", NoCookie),
    ] {
        assert_eq!(corruption(data), why, "{}", String::from_utf8_lossy(data));
    }
}

#[test]
fn a_row_with_a_hundred_thousand_keys_is_handled_in_linear_time() {
    let members: String = (0..100_000).map(|n| format!(",\"k{n}\":{n}")).collect();
    let mut document = parse(&format!("{{\"cookie\":{{}}{members}}}"));
    assert_eq!(document.key_count(), 100_000);
    document.set("k99999", "0");
    document.clear();
    assert_eq!(document.to_json(), r#"{"cookie":{}}"#);
}

#[test]
fn debug_and_errors_show_nothing_of_the_content() {
    let text = r#"{"cookie":{},"hunter2":"hunter2"}"#;
    assert!(!format!("{:?}", parse(text)).contains("hunter2"));
    let error = corruption(br#"{"cookie":{},"hunter2":hunter2}"#);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
