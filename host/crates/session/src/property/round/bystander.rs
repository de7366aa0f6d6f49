//! Events during a round's requests: blind writes, as Express makes them, and clock jumps.

use super::super::script::{KEYS, Rng, pause};
use super::super::serial::{Event, What};
use super::Case;
use super::rows::row;
use crate::record::{Document, SessionId, SessionRecord, TokenHistory};
use crate::store::{Commit, RowChange};

impl Case {
    /// Produces blind writes and clock jumps during the requests.
    pub(crate) fn bystander<'a>(
        &'a self,
        shared: &'a SessionId,
        rng: &mut Rng,
    ) -> impl Future<Output = Vec<Event>> + use<'a> {
        let mut rng = rng.fork();
        async move {
            let mut events = Vec::new();
            if self.jumps && rng.chance(70) {
                pause(&mut rng, 20).await;
                events.push(self.jump(&mut rng).await);
            }
            if self.blind_writes {
                events.push(self.blind_write(shared, &mut rng).await);
            }
            events
        }
    }

    async fn jump(&self, rng: &mut Rng) -> Event {
        let ms = rng.pick(&[5_000, 100_000, 10_000_000]);
        while !self.faulty.is_quiet() {
            tokio::task::yield_now().await;
        }
        let from = self.now();
        self.clock.advance(ms);
        Event {
            from,
            to: self.now(),
            what: What::Passed(ms),
        }
    }

    async fn blind_write(&self, shared: &SessionId, rng: &mut Rng) -> Event {
        let read = self.read(shared).await.filter(|_| rng.chance(70));
        pause(rng, 25).await;
        let _held = self.faulty.hold();
        let (fixed, expires_at_s) = self.row_text(None, rng);
        let data = match read {
            Some(record) => {
                let mut document = Document::parse(&record.data).expect("a session's row");
                document.set(rng.pick(&KEYS), rng.pick(&["0", "5", "\"e\""]));
                document.to_bytes()
            }
            None => fixed,
        };
        let from = self.now();
        if rng.chance(15) {
            let commit = Commit {
                id: shared.clone(),
                change: RowChange::Delete { base: None },
            };
            self.store.commit_many(&[commit], self.clock.now_s()).await;
            return Event {
                from,
                to: self.now(),
                what: What::Remove,
            };
        }
        self.express
            .upsert(shared, data.clone(), expires_at_s)
            .await;
        let written = SessionRecord {
            data,
            expires_at_s,
            tokens: TokenHistory::default(),
            created_at_s: None,
        };
        Event {
            from,
            to: self.now(),
            what: What::Upsert(row(&written)),
        }
    }
}
