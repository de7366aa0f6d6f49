//! The property test on the in-memory store. `CLOAKROOM_TEST_SEED` (a number) replays a case; `CLOAKROOM_TEST_CASES` sets
//! how many cases are run from there.

use std::sync::Arc;

use bytes::Bytes;

use crate::property::{BlindWriter, Settings, check};
use crate::record::SessionId;
use crate::store::StoreFuture;
use crate::store::memory::MemoryStore;

impl BlindWriter for MemoryStore {
    fn upsert<'a>(
        &'a self,
        id: &'a SessionId,
        data: Bytes,
        expires_at_s: i64,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.overwrite(id, data, expires_at_s) })
    }
}

#[tokio::test]
async fn concurrent_requests_are_serializable() {
    let settings = Settings::from_env(10_000, 8);
    let store = Arc::new(MemoryStore::new());
    let began = std::time::Instant::now();
    let report = check(store.clone(), store, settings).await;
    let report = report.unwrap_or_else(|told| panic!("{told}"));
    println!("{settings:?}: {report:?} in {:?}", began.elapsed());
    if settings.is_whole() {
        report.assert_not_vacuous();
    }
}
