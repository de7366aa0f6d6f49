//! The JSON of the control interface: request and response bodies. Session values keep their JSON text.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;

use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize as DeriveDeserialize, Serialize};
use serde_json::value::RawValue;

use super::faulty_store::RivalWrite;
use cloakroom_base::limits;
use cloakroom_host::json_api::{Refusal, problem};
use cloakroom_server::RequestBody;
use cloakroom_session::record::{Document, is_reserved_key};

/// The body of `POST /hosts/1/clock`.
#[derive(DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvanceClock {
    pub(crate) advance_ms: u64,
}

/// The body of `PUT /hosts/1/store`.
#[derive(DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreBehavior {
    pub(crate) up: bool,
}

/// The body of `POST /hosts/1/swap`.
#[derive(DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwapRequest {
    pub(crate) component: Option<PathBuf>,
    pub(crate) guest: Option<String>,
}

/// The body of `POST /hosts/1/sessions`.
#[derive(DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSession {
    pub(crate) data: OrderedMembers,
}

/// The body of `POST /hosts/1/rivals`.
#[derive(DeriveDeserialize)]
#[serde(deny_unknown_fields)]
struct NewRival {
    #[serde(default)]
    set: OrderedMembers,
    #[serde(default)]
    delete: Vec<String>,
    #[serde(default)]
    destroy: bool,
}

/// The body of a request that takes no parameters.
#[derive(DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmptyObject {}

/// The response to `POST /hosts`.
#[derive(Serialize)]
pub(crate) struct StartedHost {
    pub(crate) host: u64,
    pub(crate) url: String,
}

/// The response of the clock resource.
#[derive(Serialize)]
pub(crate) struct ClockReading {
    pub(crate) now_ms: i64,
}

/// The response to a swap.
#[derive(Serialize)]
pub(crate) struct SwapResult {
    pub(crate) version: u64,
}

/// The response to the creation of a session.
#[derive(Serialize)]
pub(crate) struct StoredCookiePair {
    pub(crate) cookie: String,
}

/// A stored session.
#[derive(Serialize)]
pub(crate) struct StoredSession {
    pub(crate) data: VisibleSession,
    pub(crate) expires_ms: i64,
}

/// The response to `GET /hosts/1/counts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SessionCounts {
    /// Requests that were answered, by guests or by the host.
    pub(crate) requests: u64,
    /// Runs of guests. A request may need several.
    pub(crate) runs: u64,
    /// Rows that were created, changed, moved or deleted.
    pub(crate) commits: u64,
    /// Conflicts: another commit had changed the row first.
    pub(crate) conflicts: u64,
    /// Conflicts that were resolved by applying the changes to the newer row.
    pub(crate) reapplies: u64,
    /// Conflicts that were resolved by running the guest again.
    pub(crate) reruns: u64,
}

/// Reads a body. An empty body counts as `{}`.
///
/// # Errors
/// Returns the response for the client: 413, 408 or 400.
pub(crate) async fn read<T: DeserializeOwned, B: RequestBody>(
    body: Pin<&mut B>,
) -> Result<T, Refusal> {
    let bytes_max = limits::TEST_BODY_BYTES_MAX;
    let whole = Box::pin(Limited::new(body, bytes_max).collect());
    let text = match tokio::time::timeout(limits::TEST_BODY_TIMEOUT, whole).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let sentence = format!("the body may have {bytes_max} bytes at most");
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, sentence));
        }
        Ok(Err(_)) => return Err(problem(StatusCode::BAD_REQUEST, "the body ended early")),
        Err(_elapsed) => {
            let sentence = "the body did not arrive in time";
            return Err(problem(StatusCode::REQUEST_TIMEOUT, sentence));
        }
    };
    let text: &[u8] = if text.is_empty() { b"{}" } else { &text };
    serde_json::from_slice(text)
        .map_err(|error| problem(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

/// Reads a change of another host.
///
/// # Errors
/// Returns the errors of [`read`], or a 400 response for a change that is not valid.
pub(crate) async fn read_rival<B: RequestBody>(body: Pin<&mut B>) -> Result<RivalWrite, Refusal> {
    let rival: NewRival = read(body).await?;
    let bad = |sentence: String| problem(StatusCode::BAD_REQUEST, sentence);
    let is_writing = !rival.set.0.is_empty() || !rival.delete.is_empty();
    match (rival.destroy, is_writing) {
        (true, true) => {
            let sentence = "a rival either destroys the session, or sets and deletes keys";
            return Err(bad(sentence.to_owned()));
        }
        (true, false) => return Ok(RivalWrite::Destroy),
        (false, false) => {
            let sentence = "this rival does nothing: give it set, delete or destroy";
            return Err(bad(sentence.to_owned()));
        }
        (false, true) => {}
    }
    let set = rival.set.texts();
    let keys = set.iter().map(|(key, _)| key).chain(&rival.delete);
    for key in keys {
        if key.is_empty() || is_reserved_key(key) {
            return Err(bad(format!("`{key}` is not a valid session key")));
        }
    }
    Ok(RivalWrite::Write {
        set,
        delete: rival.delete,
    })
}

/// The members of an object in their order. Each value keeps its JSON text.
#[derive(Default)]
pub(crate) struct OrderedMembers(Vec<(String, Box<RawValue>)>);

impl OrderedMembers {
    /// Returns the keys and the values as JSON texts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.get()))
    }

    fn texts(&self) -> Vec<(String, String)> {
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        self.iter().map(own).collect()
    }
}

impl<'de> Deserialize<'de> for OrderedMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = OrderedMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OrderedMembers, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(OrderedMembers(members))
    }
}

/// The part of a session that is visible to guests.
pub(crate) struct VisibleSession(pub(crate) Document);

impl Serialize for VisibleSession {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for key in self.0.keys() {
            let Some(text) = self.0.get(&key) else {
                continue;
            };
            let value = RawValue::from_string(text.to_owned());
            map.serialize_entry(&key, &value.map_err(serde::ser::Error::custom)?)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use std::pin::pin;

    use http_body_util::Full;

    use super::*;

    async fn rival(text: &'static str) -> Result<RivalWrite, (u16, String)> {
        let read = read_rival(pin!(Full::new(Bytes::from_static(text.as_bytes())))).await;
        match read {
            Ok(rival) => Ok(rival),
            Err(refusal) => {
                let status = refusal.status().as_u16();
                let text = refusal.into_body().collect().await.unwrap().to_bytes();
                Err((status, String::from_utf8(text.to_vec()).unwrap()))
            }
        }
    }

    #[tokio::test]
    async fn the_values_of_a_rival_write_keep_their_json_text() {
        let text = r#"{"set": {"b": 1e400, "a": "\ud800"}, "delete": ["x"]}"#;
        let Ok(RivalWrite::Write { set, delete }) = rival(text).await else {
            panic!("it writes");
        };
        let set: Vec<_> = set.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(set, [("b", "1e400"), ("a", r#""\ud800""#)]);
        assert_eq!(delete, ["x"]);
    }

    #[tokio::test]
    async fn an_empty_or_contradictory_rival_write_is_refused() {
        for (text, wrong) in [
            ("", "does nothing"),
            (r#"{"destroy": false}"#, "does nothing"),
            (r#"{"destroy": true, "delete": ["a"]}"#, "either destroys"),
            (r#"{"sett": {}}"#, "unknown field `sett`"),
            (
                r#"{"set": {"cookie": 1}}"#,
                "`cookie` is not a valid session key",
            ),
            (r#"{"delete": [""]}"#, "`` is not a valid session key"),
            (r#"{"set": 1}"#, "an object of keys and values"),
            (r#"{"set": {"a": }}"#, "line 1 column"),
            ("[", "the body: "),
        ] {
            let (status, sentence) = rival(text).await.err().expect(text);
            assert_eq!(status, 400, "{text}");
            assert!(sentence.contains(wrong), "{text}: {sentence}");
        }
    }

    #[test]
    fn stored_session_data_is_shown_byte_for_byte_without_the_cookie() {
        let row = Bytes::from_static(br#"{"cookie":{"path":"/"},"z":1e400,"a":{"b":[ 1 ]}}"#);
        let stored = StoredSession {
            data: VisibleSession(Document::parse(&row).unwrap()),
            expires_ms: 5,
        };
        let shown = serde_json::to_string(&stored).unwrap();
        assert_eq!(
            shown,
            r#"{"data":{"z":1e400,"a":{"b":[ 1 ]}},"expires_ms":5}"#
        );
    }
}
