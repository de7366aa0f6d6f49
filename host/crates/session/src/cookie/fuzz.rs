//! Properties of every `Cookie` header that a client may send, and of every cookie that a guest may write.
//!
//! An input is the lines of `Cookie` headers, followed by cookies to write, each preceded by a byte 0xFF. Some bytes that no
//! header field contains represent values that an input cannot guess: 0x01 to 0x04 for values that the rings below have signed.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::pair::pairs;
use super::{
    CookieJar, CookieJarKeys, CookieResolution, CookieValue, CookieWriteError, IdComparison,
    KeyRing, PresentedCookies, Secret, expire_cookie, is_cookie_named, is_valid_name, set_cookie,
    take_from,
};
use crate::record::{CookieAttributes, Priority, SameSite, SessionId, check_value, is_truthy};
use cloakroom_base::clock::Clock;

/// The name of the session's cookie.
const NAME: &str = "connect.sid";
/// Two IDs of the usual form, followed by a text that is not an ID.
const IDS: [&str; 2] = [
    "0123456789abcdefghijklmnopqrstuv",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_0123",
];
const TEXT: &str = "hello";
/// The attributes that a `Set-Cookie` may have, each once, in the order of Express.
const ATTRIBUTES: [&str; 9] = [
    "Max-Age",
    "Domain",
    "Path",
    "Expires",
    "HttpOnly",
    "Secure",
    "Partitioned",
    "Priority",
    "SameSite",
];

/// The fuzz target `cookies`.
pub fn cookies(input: &[u8]) {
    static RINGS: LazyLock<Rings> = LazyLock::new(Rings::new);
    let rings = &*RINGS;
    let mut parts = input.split(|byte| *byte == 0xff);
    let lines = parts.next().unwrap_or_default();
    rings.check_request(&rings.headers(lines), lines.contains(&0x03));
    for part in parts {
        rings.check_writing(part);
    }
}

/// The keys of this host, including older ones, and the keys of another host.
struct Rings {
    own: Arc<KeyRing>,
    other: KeyRing,
    /// The values for the bytes 0x01 to 0x04: two IDs that this host signed, one of them with an older secret; an ID that
    /// another host signed; and a text of the jar.
    signed: [String; 4],
    /// The jar of a host whose applications sign with the session's secrets, and of a host whose applications have their own
    /// secrets.
    jars: [Arc<CookieJar>; 2],
}

impl Rings {
    fn new() -> Self {
        let ring = |secrets: &[&str]| {
            let secrets = secrets.iter().map(|it| Secret::new(it.as_bytes().to_vec()));
            KeyRing::new(secrets.collect()).expect("no secret is empty")
        };
        let own = Arc::new(ring(&["the first secret", "an older secret"]));
        let (older, other) = (ring(&["an older secret"]), ring(&["another host's secret"]));
        let id = |at: usize| SessionId::from_foreign(IDS[at]).expect("an id is short");
        let jar = |keys| {
            CookieJar::new(
                NAME,
                CookieJarKeys::new(keys, &own, IdComparison::Exact),
                Clock::manual(1_700_000_000_000),
            )
        };
        let jars = [
            jar(Arc::clone(&own)),
            jar(Arc::new(ring(&["the applications' secret"]))),
        ];
        Self {
            signed: [
                own.sign(&id(0)),
                older.sign(&id(1)),
                other.sign(&id(0)),
                own.sign_text(TEXT),
            ],
            own,
            other,
            jars,
        }
    }

    fn headers(&self, lines: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines.split(|byte| *byte == b'\n') {
            let mut value = Vec::new();
            for byte in line {
                match byte {
                    1..=4 => {
                        value.extend_from_slice(self.signed[usize::from(byte - 1)].as_bytes());
                    }
                    other => value.push(*other),
                }
            }
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(COOKIE, value);
            }
        }
        headers
    }

    /// Asserts that no guest sees the session's cookie, that all other cookies stay, and that only signed values identify a
    /// session.
    fn check_request(&self, sent: &HeaderMap, has_anothers: bool) {
        let mut left = sent.clone();
        let presented = take_from(&mut left, NAME);
        let names = |headers: &HeaderMap| -> Vec<(Vec<u8>, Vec<u8>)> {
            let pairs = headers.get_all(COOKIE).iter().flat_map(pairs);
            pairs.map(|(n, v)| (n.to_vec(), v.to_vec())).collect()
        };
        let is_own = |(name, _): &(Vec<u8>, Vec<u8>)| name == NAME.as_bytes();
        let (own, others): (Vec<_>, Vec<_>) = names(sent).into_iter().partition(is_own);
        assert_eq!(names(&left), others);
        assert_eq!(presented.is_empty(), own.is_empty());
        let mut again = left.clone();
        assert!(take_from(&mut again, NAME).is_empty());
        assert_eq!(again, left, "nothing is left to take");
        self.check_resolution(&presented);
        if !has_anothers {
            let resolution = presented.resolve(&self.other);
            assert!(
                match resolution {
                    CookieResolution::Absent | CookieResolution::Invalid => true,
                    CookieResolution::Valid(_) => false,
                    CookieResolution::Several(ids) => ids.is_empty(),
                },
                "another ring took a cookie of ours"
            );
        }
        for jar in &self.jars {
            check_read(jar, &left);
        }
    }

    fn check_resolution(&self, presented: &PresentedCookies) {
        let resolution = presented.resolve(&self.own);
        match &resolution {
            // Besides the IDs, only the jar's text is signed. It identifies a session that no store has.
            CookieResolution::Valid(id) => {
                assert!(
                    IDS.contains(&id.as_str()) || id.as_str() == TEXT,
                    "a forged id"
                );
                let value = self.own.sign(id);
                assert_eq!(self.own.verify(&value).as_ref(), Some(id));
            }
            CookieResolution::Absent => assert!(presented.is_empty()),
            CookieResolution::Invalid => assert!(!presented.is_empty()),
            CookieResolution::Several(ids) => {
                let is_known = |id: &SessionId| IDS.contains(&id.as_str()) || id.as_str() == TEXT;
                assert!(ids.len() != 1 && ids.iter().all(is_known), "a forged id");
                let distinct: HashSet<&SessionId> = ids.iter().collect();
                assert_eq!(distinct.len(), ids.len(), "an id is named twice");
            }
        }
        let shown = format!("{presented:?} {resolution:?}");
        assert!(IDS.iter().all(|id| !shown.contains(id)), "an id is shown");
    }

    /// Asserts that a written cookie is one cookie with the requested attributes, and is read back as it was written.
    fn check_writing(&self, part: &[u8]) {
        let asked = Asked::of(part);
        self.check_session_cookie(&asked);
        for jar in &self.jars {
            self.check_written(jar, &asked);
        }
    }

    fn check_session_cookie(&self, asked: &Asked) {
        let ended = expire_cookie(&asked.name, &asked.attributes);
        check_header(&ended, &asked.name);
        let header = set_cookie(&asked.name, &asked.text, &asked.attributes);
        check_header(&header, &asked.name);
        if let Some(id) = SessionId::from_foreign(&asked.text) {
            let value = self.own.sign(&id);
            let header = set_cookie(NAME, &value, &asked.attributes);
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, pair_of(&header));
            let presented = take_from(&mut headers, NAME);
            assert_eq!(presented.resolve(&self.own), CookieResolution::Valid(id));
        }
    }

    fn check_written(&self, jar: &CookieJar, asked: &Asked) {
        let Asked {
            name,
            value,
            is_signed,
            attributes,
            ..
        } = asked;
        let written = match jar.write(name, value, *is_signed, attributes) {
            Ok(written) => written,
            Err(error) => {
                assert_eq!(error == CookieWriteError::Name, !is_valid_name(name));
                return;
            }
        };
        let header = HeaderValue::try_from(&written).expect("what is written is a header's value");
        check_header(&header, name);
        assert!(!is_cookie_named(&header, NAME), "a session's cookie");
        let pair = pair_of(&header);
        let (_, sent) = pairs(&pair).next().expect("a cookie is a pair");
        let sent = std::str::from_utf8(sent).expect("a written cookie is ASCII");
        let vouched = self.own.verify(sent);
        let is_like_an_id = |id: &SessionId| SessionId::could_be(id.as_str().trim_end_matches(' '));
        assert!(
            !vouched.as_ref().is_some_and(is_like_an_id),
            "the jar signed a session's id"
        );
        let read = jar.read([&pair]);
        if name == "__proto__" {
            assert!(read.is_empty());
            return;
        }
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].name, *name);
        let expected = expected(value, *is_signed);
        assert!(read[0].value == expected, "a value is not read as written");
    }
}

/// Returns the value that cookie-parser reads from a value written by `res.cookie`.
fn expected(value: &CookieValue, is_signed: bool) -> Option<CookieValue> {
    match value {
        CookieValue::Json(json) => {
            let json = check_value(json).expect("what was written is JSON");
            Some(if is_truthy(json) {
                CookieValue::Json(json.to_owned())
            } else {
                CookieValue::Text(format!("j:{json}"))
            })
        }
        // No key ring signed this text.
        CookieValue::Text(text) if !is_signed && text.starts_with("s:") => None,
        CookieValue::Text(text) => {
            let json = text
                .strip_prefix("j:")
                .and_then(|rest| check_value(rest).ok());
            Some(match json.filter(|json| is_truthy(json)) {
                Some(json) => CookieValue::Json(json.to_owned()),
                None => CookieValue::Text(text.clone()),
            })
        }
    }
}

fn check_read(jar: &CookieJar, headers: &HeaderMap) {
    let cookies = jar.read(headers.get_all(COOKIE));
    let mut names = HashSet::new();
    for cookie in cookies {
        assert!(names.insert(cookie.name.clone()), "a name comes twice");
        assert!(cookie.name != NAME, "a guest sees the session's cookie");
        match &cookie.value {
            None => assert!(cookie.is_signed),
            Some(CookieValue::Text(text)) if cookie.is_signed => {
                // The jar cannot distinguish a session ID from an equal text of an application, so it must return neither.
                assert!(!SessionId::could_be(text.trim_end_matches(' ')));
                assert_eq!(text, TEXT, "a forged value");
            }
            Some(CookieValue::Json(json)) => {
                assert_eq!(check_value(json), Ok(json.as_str()));
                assert!(is_truthy(json));
                assert!(!cookie.is_signed, "a forged value");
            }
            Some(CookieValue::Text(_)) => {}
        }
    }
}

/// Asserts that the header has one cookie, and only known attributes, each once.
fn check_header(header: &HeaderValue, name: &str) {
    let text = header.to_str().expect("a header of visible ASCII");
    let mut parts = text.split(';');
    let pair = parts.next().unwrap_or_default();
    assert!(
        pair.contains('=') && !pair.contains([' ', ',', '"', '\\']),
        "{pair:?}"
    );
    // Characters that a name may not have are dropped. A cookie without a name counts by its value, which may be anything.
    if is_valid_name(name) {
        assert!(is_cookie_named(header, name));
    }
    let mut last = None;
    for part in parts {
        let attribute = part.strip_prefix(' ').expect("one space before each");
        let key = attribute.split('=').next().unwrap_or_default();
        let place = ATTRIBUTES.iter().position(|known| *known == key);
        assert!(place.is_some() && place > last, "{attribute:?}");
        last = place;
    }
}

fn pair_of(set_cookie: &HeaderValue) -> HeaderValue {
    let mut parts = set_cookie.as_bytes().split(|byte| *byte == b';');
    HeaderValue::from_bytes(parts.next().unwrap_or_default()).expect("a part of a header's value")
}

/// A cookie to write.
struct Asked {
    name: String,
    text: String,
    value: CookieValue,
    is_signed: bool,
    attributes: CookieAttributes,
}

impl Asked {
    /// Parses `FLAGS NAME 0xFE VALUE 0xFE DOMAIN 0xFE PATH 0xFE TIME`. A missing part is empty.
    fn of(part: &[u8]) -> Self {
        let (flags, rest) = part.split_first().unwrap_or((&0, part));
        let mut texts = rest
            .split(|byte| *byte == 0xfe)
            .map(|text| String::from_utf8_lossy(text).into_owned());
        let mut next = || texts.next().unwrap_or_default();
        let (name, text, domain, path) = (next(), next(), next(), next());
        let time = next().parse().ok();
        let has = |bit: u8| flags & (1 << bit) != 0;
        let attributes = CookieAttributes {
            original_max_age_ms: time.filter(|_| has(0)),
            expires_at_ms: time.filter(|_| has(1)),
            path,
            domain: Some(domain).filter(|_| has(2)),
            http_only: has(3),
            secure: has(3),
            partitioned: has(2),
            same_site: has(4).then_some(SameSite::Lax),
            priority: has(4).then_some(Priority::High),
        };
        let value = if has(5) {
            CookieValue::Json(text.clone())
        } else {
            CookieValue::Text(text.clone())
        };
        Self {
            name,
            text,
            value,
            is_signed: has(6),
            attributes,
        }
    }
}
