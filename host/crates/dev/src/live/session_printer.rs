//! Prints session changes for the developer. Wraps the store and prints the changes of each commit. Because it prints session
//! values, only `cloakroom dev` may use it. It never prints session ids. All calls are passed on to the inner store unchanged.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use super::console::{Console, TextStyle};
use cloakroom_session::record::{Document, SessionId, SessionRecord};
use cloakroom_session::store::layer;
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, SessionStore, StoreError, StoreFuture,
};

/// The maximum number of entries printed per commit.
const ENTRIES_MAX: usize = 8;
/// The maximum number of characters printed of a key or a value.
const VALUE_CHARS_MAX: usize = 48;

/// A store that prints the changes of each commit.
pub(crate) struct SessionPrinter {
    store: Arc<dyn SessionStore>,
    console: Console,
    /// Hashes ids to names. The names cannot be reversed, and differ at each start.
    names: RandomState,
}

impl fmt::Debug for SessionPrinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPrinter")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl SessionPrinter {
    /// Wraps `store`.
    pub(crate) fn new(store: Arc<dyn SessionStore>, console: Console) -> Self {
        Self {
            store,
            console,
            names: RandomState::new(),
        }
    }

    fn name(&self, id: &SessionId) -> String {
        format!("session {:04x}", self.names.hash_one(id) & 0xffff)
    }

    fn print(&self, commit: &Commit, verdict: &CommitVerdict) {
        let line = match verdict {
            CommitVerdict::Committed => match self.change(&commit.change) {
                Some(line) => line,
                None => return,
            },
            CommitVerdict::Conflict | CommitVerdict::RolledBack(_) => {
                "another request changed it first".to_owned()
            }
            // The log contains the store error.
            CommitVerdict::Ambiguous(_) => "it is unknown whether this was stored".to_owned(),
            CommitVerdict::Failed(_) => "not stored".to_owned(),
        };
        let style = match verdict {
            CommitVerdict::Committed => TextStyle::Cyan,
            _ => TextStyle::Yellow,
        };
        let name = format!("  {}  ", self.name(&commit.id));
        self.console
            .line(&[(TextStyle::Dim, &name), (style, &line)]);
    }

    /// Describes a change. Returns `None` if only the expiry of the session changes.
    fn change(&self, change: &RowChange) -> Option<String> {
        let (what, entries) = match change {
            RowChange::Create(record) => ("new".to_owned(), entries(None, record)),
            RowChange::Update {
                base,
                record,
                new_id,
            } => {
                let before = Document::parse(&base.data).ok();
                let what = match new_id {
                    Some(id) => format!("renewed, from now on {}", self.name(id)),
                    None => String::new(),
                };
                (what, entries(before.as_ref(), record))
            }
            RowChange::Delete { .. } => ("destroyed".to_owned(), Vec::new()),
        };
        let mut line = what;
        for (at, entry) in entries.iter().take(ENTRIES_MAX).enumerate() {
            line += match (at, line.is_empty()) {
                (0, true) => "",
                (0, false) => ": ",
                _ => ", ",
            };
            line += entry;
        }
        if let Some(more @ 1..) = entries.len().checked_sub(ENTRIES_MAX) {
            line += &format!(", and {more} more");
        }
        (!line.is_empty()).then_some(line)
    }
}

/// Describes the entries that were added, changed or removed.
fn entries(before: Option<&Document>, record: &SessionRecord) -> Vec<String> {
    let Ok(after) = Document::parse(&record.data) else {
        return Vec::new();
    };
    let old = |key: &str| before.and_then(|before| before.get(key));
    let mut line = Vec::new();
    for key in before.map(Document::keys).unwrap_or_default() {
        if after.get(&key).is_none() {
            line.push(format!("{} is gone", shown(&key)));
        }
    }
    for key in after.keys() {
        let value = after.get(&key).unwrap_or_default();
        let name = shown(&key);
        match old(&key) {
            Some(old) if old == value => {}
            Some(old) => line.push(format!("{name} {} → {}", shown(old), shown(value))),
            None => line.push(format!("{name} = {}", shown(value))),
        }
    }
    line
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl layer::StoreLayer for SessionPrinter {
    fn inner(&self) -> &dyn SessionStore {
        &*self.store
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(async move {
            let verdicts = self.store.commit_many(commits, now_s).await;
            for (commit, verdict) in commits.iter().zip(&verdicts) {
                self.print(commit, verdict);
            }
            verdicts
        })
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let reaped = self.store.reap(now_s, rows_max).await;
            if let Ok(rows @ 1..) = reaped {
                let line = format!("  {rows} expired and removed");
                self.console.line(&[(TextStyle::Dim, &line)]);
            }
            reaped
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::console::ColorMode;
    use super::super::console::tests::Captured;
    use super::*;
    use cloakroom_session::record::TokenHistory;
    use cloakroom_session::store::RowVersion;
    use cloakroom_session::store::contract;
    use cloakroom_session::store::memory::MemoryStore;

    const COOKIE: &str =
        r#""cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}"#;

    fn record(entries: &str) -> SessionRecord {
        SessionRecord {
            data: format!("{{{COOKIE}{entries}}}").into(),
            expires_at_s: 1000,
            tokens: TokenHistory::default(),
            created_at_s: None,
        }
    }

    fn store(captured: &Captured) -> SessionPrinter {
        let console = Console::to(captured.clone(), ColorMode::Plain);
        SessionPrinter::new(Arc::new(MemoryStore::new()), console)
    }

    async fn commit(store: &SessionPrinter, id: &SessionId, change: RowChange) {
        let commit = Commit {
            id: id.clone(),
            change,
        };
        store.commit_many(&[commit], 0).await;
    }

    #[tokio::test]
    async fn the_changes_of_a_commit_are_printed_without_the_session_id() {
        let captured = Captured::default();
        let store = store(&captured);
        let (id, other) = (SessionId::generate(), SessionId::generate());
        let first = record(r#","num":1,"cart":[1]"#);
        let second = record(r#","num":2,"user":"ada""#);
        let update = |base: &SessionRecord, record: &SessionRecord, new_id| RowChange::Update {
            base: RowVersion::of(base),
            record: record.clone(),
            new_id,
        };
        commit(&store, &id, RowChange::Create(first.clone())).await;
        commit(&store, &id, update(&first, &second, None)).await;
        commit(&store, &id, update(&first, &second, None)).await;
        commit(&store, &id, update(&second, &second, Some(other.clone()))).await;
        commit(&store, &other, RowChange::Delete { base: None }).await;

        let text = captured.text();
        let (name, new_name) = (store.name(&id), store.name(&other));
        let expected = format!(
            "  {name}  new: num = 1, cart = [1]\n\
             \x20 {name}  cart is gone, num 1 → 2, user = \"ada\"\n\
             \x20 {name}  another request changed it first\n\
             \x20 {name}  renewed, from now on {new_name}\n\
             \x20 {new_name}  destroyed\n"
        );
        assert_eq!(text, expected);
        for id in [&id, &other] {
            assert!(!text.contains(id.as_str()));
        }
    }

    #[tokio::test]
    async fn a_commit_that_changes_only_the_expiry_is_not_printed() {
        let captured = Captured::default();
        let store = store(&captured);
        let id = SessionId::generate();
        let row = record(r#","num":1"#);
        commit(&store, &id, RowChange::Create(row.clone())).await;
        let before = captured.text();
        let later = SessionRecord {
            expires_at_s: 2000,
            ..row.clone()
        };
        let change = RowChange::Update {
            base: RowVersion::of(&row),
            record: later,
            new_id: None,
        };
        commit(&store, &id, change).await;
        assert_eq!(captured.text(), before);
    }

    #[test]
    fn long_changes_are_abbreviated() {
        let many: String = (0..10)
            .map(|n| format!(",\"k{n}\":\"{}\"", "x".repeat(99)))
            .collect();
        let line = store(&Captured::default())
            .change(&RowChange::Create(record(&many)))
            .unwrap();
        assert!(line.ends_with("…, and 2 more"), "{line}");
        assert!(line.len() < 600, "{line}");
    }

    #[tokio::test]
    async fn the_printing_store_keeps_the_store_contract() {
        let make = async || Arc::new(store(&Captured::default())) as Arc<dyn SessionStore>;
        contract::check_all(make).await;
    }
}
