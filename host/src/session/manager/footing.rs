//! What a run stands on: nothing yet, the store's row, or what this process remembers of it.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use super::{Loaded, SessionManager};
use crate::record::{SessionId, SessionRecord};
use crate::session::policy::{self, Link, Standing};
use crate::session::run::{Check, Coming, Footing, Loading, Phase, Since};
use crate::session::snapshots::{Known, Last};
use crate::session::transaction::{Base, Limits, Transaction};
use crate::session::{Access, Start, Visit};
use crate::store::StoreError;

impl SessionManager {
    /// A session without a row.
    pub(in crate::session) fn fresh(&self, standing: Standing, link: Link) -> Phase {
        let cookie = policy::new_cookie(&self.options.cookie, link, self.clock.now_ms());
        let limits = Limits::of(&self.options);
        Phase::Open(Box::new(Transaction::without_row(
            standing, &cookie, limits,
        )))
    }

    /// The session of a row.
    pub(in crate::session) fn on_row(&self, base: Arc<Base>, link: Link) -> Phase {
        let cookie = policy::new_cookie(&self.options.cookie, link, self.clock.now_ms());
        let limits = Limits::of(&self.options);
        Phase::Open(Box::new(Transaction::loaded(base, &cookie, limits)))
    }

    /// What the first run of a visit to this session stands on.
    pub(super) async fn footing(self: &Arc<Self>, visit: &Visit, id: SessionId) -> Footing {
        let snapshot = match visit.start {
            Start::Optimistic => self.snapshots.take(&id),
            Start::Fresh | Start::Exclusive => None,
        };
        let Some(snapshot) = snapshot.filter(|it| self.is_valid(&it.base)) else {
            return self.loading(id, Standing::New).await.into();
        };
        self.counters.snapshots.add_one();
        // One that will write is compared by its commit; one that will not, by a read beside the guest.
        let is_read = snapshot.last == Last::Read || visit.grant.access == Access::Read;
        let since = Since::BeforeVisit(Instant::now());
        let check = match is_read {
            true => Check::UnderWay(since, self.load_beside(id)),
            false => Check::Due(since),
        };
        let phase = self.on_row(snapshot.base, Link::of(visit));
        Footing { phase, check }
    }

    fn is_valid(&self, base: &Base) -> bool {
        let (record, now_s) = (&base.record, self.clock.now_s());
        let is_outlived = policy::is_outlived(&self.options, record.created_at_s, now_s);
        record.expires_at_s >= now_s && !is_outlived
    }

    /// Starts to load a row; the guest's instance is made meanwhile. Without a row the session is `absent`.
    pub(super) async fn loading(self: &Arc<Self>, id: SessionId, absent: Standing) -> Phase {
        let mut load = Box::pin(Arc::clone(self).load_owned(id.clone()));
        // A store in memory has it at once: no task is made for that.
        let row = match futures_util::poll!(&mut load) {
            Poll::Ready(loaded) => Coming::Here(Some(loaded)),
            Poll::Pending => Coming::OnItsWay(AbortOnDropHandle::new(self.tasks.spawn(load))),
        };
        Phase::Loading { id, row, absent }
    }

    /// Reads a row in a task, which ends with the handle: a read whose request is over would take the place of another's.
    pub(in crate::session) fn load_beside(self: &Arc<Self>, id: SessionId) -> Loading {
        let load = Arc::clone(self).load_owned(id);
        AbortOnDropHandle::new(self.tasks.spawn(load))
    }

    async fn load_owned(self: Arc<Self>, id: SessionId) -> Result<Loaded, StoreError> {
        self.load(&id).await
    }

    /// Reads a session's row.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(in crate::session) async fn load(&self, id: &SessionId) -> Result<Loaded, StoreError> {
        self.counters.loads.add_one();
        let now_s = self.clock.now_s();
        let rows = self.store.load_many(std::slice::from_ref(id), now_s).await;
        let row =
            rows.inspect_err(|error| self.tell_store_fault("could not read a session", error))?;
        let is_outlived =
            |row: &SessionRecord| policy::is_outlived(&self.options, row.created_at_s, now_s);
        let Some(record) = row
            .into_iter()
            .next()
            .flatten()
            .filter(|row| !is_outlived(row))
        else {
            self.snapshots.forget(id);
            return Ok(Loaded::Absent);
        };
        match Base::new(id.clone(), record) {
            Ok(base) => {
                let base = Arc::new(base);
                self.snapshots.keep(&base, Known::Loaded);
                Ok(Loaded::Row(base))
            }
            Err(error) => {
                self.snapshots.forget(id);
                self.counters.corrupt_rows.add_one();
                let session = self.keys.load().fingerprint(id);
                tracing::warn!(session, %error, "a row is no session; it is left as it is");
                Ok(Loaded::Corrupt)
            }
        }
    }

    /// A row that was there while the visit ran.
    pub(super) fn remembered(&self, base: Arc<Base>, link: Link) -> Footing {
        let check = Check::Due(Since::DuringVisit);
        let phase = self.on_row(base, link);
        Footing { phase, check }
    }
}
