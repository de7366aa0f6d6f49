//! Random texts against each character set.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::record::{CookieAttributes, Document, StoredCookieObject};

const ALL: [Charset; 4] = [
    Charset::Unicode,
    Charset::Basic,
    Charset::Listed(&['ä', 'é', 'ü', '€']),
    Charset::Ascii,
];

/// An xorshift generator. Each failure names the seed that reproduces it.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 32) % u64::from(end)).expect("it is below a u32")
    }

    /// Returns a character whose UTF-8 length is random, including characters that JSON escapes.
    fn character(&mut self) -> char {
        const ODD: [char; 10] = [
            '"', '\\', '\0', '\n', '\u{7f}', '\u{80}', '\u{81}', '€', '\u{ffff}', '🦕',
        ];
        let end = [0x80, 0x180, 0x3000, 0x1_0000, 0x11_0000][self.below(5) as usize];
        match self.below(3) {
            0 => ODD[self.below(10) as usize],
            _ => char::from_u32(self.below(end)).unwrap_or('a'),
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| self.character()).collect()
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => Value::from(self.below(1000)),
            2 | 3 => Value::from(self.text()),
            4 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let members = (0..self.below(4)).map(|_| (self.text(), self.value(depth - 1)));
                Value::Object(members.collect())
            }
        }
    }
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

#[test]
fn an_encoded_text_fits_the_character_set_and_is_the_same_json() {
    for seed in 1..2000 {
        let value = Random(seed * 0x9e37_79b9).value(3);
        let json = value.to_string();
        for charset in ALL {
            let encoded = charset.encode(&json);
            assert!(encoded.chars().all(|c| charset.holds(c)), "seed {seed}");
            assert_eq!(read(&encoded), value, "seed {seed}, {charset:?}");
            assert!(encoded.len() <= 3 * json.len(), "seed {seed}, {charset:?}");
            assert_eq!(charset.encode(&encoded), encoded, "seed {seed}: again");
        }
    }
}

#[test]
fn only_characters_outside_the_columns_charset_are_escaped() {
    let text = r#"{"é€":"a\"\\ü가🦕"}"#;
    for (charset, expected) in [
        (Charset::Unicode, text),
        (Charset::Basic, r#"{"é€":"a\"\\ü가\ud83e\udd95"}"#),
        (
            Charset::listed(vec!['é', '€', 'a', 'ü']),
            r#"{"é€":"a\"\\ü\uac00\ud83e\udd95"}"#,
        ),
        (
            Charset::Ascii,
            r#"{"\u00e9\u20ac":"a\"\\\u00fc\uac00\ud83e\udd95"}"#,
        ),
    ] {
        assert_eq!(charset.encode(text), expected, "{charset:?}");
    }
}

#[test]
fn a_document_escapes_new_entries_and_keeps_untouched_bytes() {
    for seed in 1..500 {
        let mut random = Random(seed * 0x9e37_79b9);
        for charset in ALL {
            let kept = charset.encode(r#""kept ä ア 🦕":{"a" : "ä ア 🦕\ud83e"}"#);
            let row = format!(r#"{{ {kept} ,"cookie":{{}}}}"#);
            let row = Bytes::from(row);
            let mut document = Document::parse(&row).unwrap().held_in(charset);
            assert_eq!(document.to_bytes(), row);

            let (key, value) = (format!("k{}", random.text()), random.value(2));
            document.set(&key, &value.to_string());
            let written = document.to_json();
            assert_eq!(written.len(), document.json_len());
            assert!(written.contains(&*kept), "seed {seed}, {charset:?}");
            assert!(written.chars().all(|c| charset.holds(c)), "seed {seed}");

            // A decoded key is equal to the guest's key, however it is written.
            let mut again = Document::parse(&Bytes::from(written))
                .unwrap()
                .held_in(charset);
            assert_eq!(again.keys(), ["kept ä ア 🦕", &key], "seed {seed}");
            assert_eq!(read(again.get(&key).unwrap()), value, "seed {seed}");
            assert_eq!(again.get(&key), document.get(&key), "seed {seed}");

            let before = again.to_bytes();
            again.set(&key, &value.to_string());
            assert_eq!(again.to_bytes(), before, "the same JSON changes nothing");
            assert!(again.delete(&key) && again.delete("kept ä ア 🦕"));
        }
    }
}

#[test]
fn a_cookie_is_written_in_characters_of_the_column_as_well() {
    let attributes = CookieAttributes {
        path: "/é🦕".to_owned(),
        ..CookieAttributes::default()
    };
    let document = Document::new(StoredCookieObject::new(&attributes)).held_in(Charset::Ascii);
    assert!(document.to_json().is_ascii(), "{}", document.to_json());
    assert_eq!(document.to_json().len(), document.json_len());
    let read = Document::parse(&document.to_bytes()).unwrap();
    assert_eq!(read.cookie().attributes().path, "/é🦕");
}

#[test]
fn the_charset_names_of_mysql_are_recognised() {
    for (name, charset) in [
        (None, Charset::Unicode),
        (Some("utf8mb4"), Charset::Unicode),
        (Some("utf8"), Charset::Basic),
        (Some("utf8mb3"), Charset::Basic),
        (Some("latin1"), Charset::Ascii),
        (Some("ascii"), Charset::Ascii),
        (Some("sjis"), Charset::Ascii),
    ] {
        assert_eq!(Charset::of_mysql(name), charset, "{name:?}");
    }
}
