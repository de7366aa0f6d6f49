//! The initial rows of a case, and the content of a row.

use bytes::Bytes;

use super::super::model::{Content, Row};
use super::super::script::{KEYS, Rng};
use super::{Case, IDLE};
use crate::record::{
    CommitToken, CookieAttributes, Document, SessionId, SessionRecord, StoredCookieObject,
    TokenHistory,
};
use crate::store::{Commit, CommitVerdict, RowChange};

impl Case {
    /// Creates the first row: one of Cloakroom, one of Express, or none.
    pub(crate) async fn make_row(&self, id: &SessionId, rng: &mut Rng) {
        let max_age_ms = rng.pick(&[None, Some(60_000), Some(2_000_000)]);
        let (data, expires_at_s) = self.row_text(max_age_ms, rng);
        match rng.below(10) {
            0 => {}
            1 | 2 => {
                self.express.upsert(id, data, expires_at_s).await;
            }
            _ => {
                let record = SessionRecord {
                    data,
                    expires_at_s,
                    tokens: TokenHistory::default().push(CommitToken::generate()),
                    created_at_s: Some(self.clock.now_s()),
                };
                let commit = Commit {
                    id: id.clone(),
                    change: RowChange::Create(record),
                };
                let verdicts = self.store.commit_many(&[commit], self.clock.now_s()).await;
                assert!(
                    matches!(verdicts[..], [CommitVerdict::Committed]),
                    "{verdicts:?}"
                );
            }
        }
    }

    pub(crate) fn row_text(&self, max_age_ms: Option<i64>, rng: &mut Rng) -> (Bytes, i64) {
        let now_ms = self.clock.now_ms();
        let cookie = StoredCookieObject::new(&CookieAttributes {
            original_max_age_ms: max_age_ms,
            expires_at_ms: max_age_ms.map(|ms| now_ms + ms),
            ..CookieAttributes::default()
        });
        let mut document = Document::new(cookie);
        for key in KEYS {
            if rng.chance(40) {
                document.set(key, rng.pick(&["0", "1", "\"x\""]));
            }
        }
        let lifetime_ms = max_age_ms.unwrap_or(IDLE.as_millis() as i64);
        (
            document.to_bytes(),
            cloakroom_base::clock::round_to_seconds(now_ms + lifetime_ms),
        )
    }
}

pub(crate) fn row(record: &SessionRecord) -> Row {
    let document = Document::parse(&record.data).expect("a session's row");
    let entry = |key: String| {
        let value = document.get(&key).expect("a listed key").to_owned();
        (key, value)
    };
    let attributes = document.cookie().attributes();
    Row {
        content: Content {
            entries: document.keys().into_iter().map(entry).collect(),
            max_age_ms: attributes.original_max_age_ms,
            cookie_ends_at_ms: attributes.expires_at_ms,
        },
        expires_at_s: record.expires_at_s,
    }
}
