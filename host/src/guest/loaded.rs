//! One version of a guest, loaded: its code and what it was granted, and what is known of how it fares.
//!
//! Knows what a run of it needs; how a run is driven, `invoke` knows, and which version serves, the registry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::{Engine, Store};

use super::caller::Caller;
use super::code_cache::Hold;
use super::context::{self, Belongings, Context};
use super::denials::Denials;
use super::engine::World;
use super::gate::{Gates, Usage};
use super::health::{Conduct, Health};
use super::instance::Instance;
use super::lane::{Habit, Lane};
use super::loader::{ComponentInfo, LoadError};
use super::log::{Allowance, GuestLog};
use super::outbound::{GuestPool, Outbound, OutboundHost};
use super::runtime::Handler;
use super::settings::{GuestSettings, Limits, Rollout, StreamPolicy};
use super::shelf::Shelf;
use super::tally::Tally;
use crate::limits;
use crate::quota::PeerKey;
use crate::session::{Grant, Start};
use crate::telemetry::metrics::{GuestMetrics, VersionMetrics};

/// One version of a guest, loaded. `Debug` shows no environment.
pub struct Guest {
    version: u64,
    code: Arc<Code>,
    health: Arc<Health>,
    metrics: Arc<VersionMetrics>,
    denials: Arc<Denials>,
    /// What its runs may log together.
    allowance: Arc<Allowance>,
    /// Where its instances wait for another request, if they may serve more than one.
    shelf: Option<Arc<Shelf>>,
    /// Cancelled when this version's requests have had their time.
    cut: CancellationToken,
    /// Cancelled when nobody holds this version any more.
    gone: CancellationToken,
    _gone: DropGuard,
}

/// What versions share that were made from one component with one set of settings.
struct Code {
    name: Arc<str>,
    component: ComponentInfo,
    grant: Arc<Grant>,
    start: Start,
    stream: StreamPolicy,
    reuse: u32,
    limits: Limits,
    environment: Arc<[(String, String)]>,
    outbound_hosts: Arc<[OutboundHost]>,
    rollout: Rollout,
    rights: Rights,
    handler: Handler,
}

/// What a guest is fitted with: whether it asks for sessions and cookies, its engine, its places in the queues, and where it goes when it
/// computes for long.
pub(super) struct Rights {
    pub(super) imports_session: bool,
    pub(super) imports_cookies: bool,
    pub(super) engine: Engine,
    pub(super) gates: Gates,
    pub(super) outbound: Arc<GuestPool>,
    pub(super) lane: Arc<Lane>,
    pub(super) habit: Arc<Habit>,
    /// Places for instances that wait for another request, and how long each may.
    pub(super) parked: Arc<Semaphore>,
    pub(super) parked_idle_max: Duration,
    /// Keeps its file in the cache while it serves.
    pub(super) _code: Option<Hold>,
}

impl Guest {
    pub(super) fn new(
        settings: GuestSettings,
        component: ComponentInfo,
        handler: Handler,
        rights: Rights,
    ) -> Self {
        // A candidate's own: nobody scrapes them.
        let metrics = GuestMetrics::new(&settings.name).version(0);
        Self::of(
            0,
            metrics,
            Arc::new(Code {
                name: settings.name.into(),
                component,
                grant: Arc::new(settings.grant),
                start: settings.start,
                stream: settings.stream,
                reuse: settings.reuse,
                limits: settings.limits,
                environment: settings.environment.into(),
                outbound_hosts: settings.outbound_hosts.into(),
                rollout: settings.rollout,
                rights,
                handler,
            }),
        )
    }

    fn of(version: u64, metrics: Arc<VersionMetrics>, code: Arc<Code>) -> Self {
        let thresholds = code.rollout.rollback.map(|rollback| rollback.thresholds);
        let gone = CancellationToken::new();
        let health = Health::new(thresholds).counted_in(Arc::clone(&metrics));
        let denials = Denials::new(Arc::clone(&code.name), Arc::clone(metrics.guest()));
        let log_rate = code.limits.log_bytes_per_s_max;
        let allowance = Allowance::new(log_rate, Arc::clone(metrics.guest()));
        let rights = &code.rights;
        let shelf = (code.reuse > 1).then(|| {
            let (places, lane) = (Arc::clone(&rights.parked), Arc::clone(&rights.lane));
            Shelf::new(code.reuse, rights.parked_idle_max, places, lane)
        });
        Self {
            version,
            shelf,
            code,
            health: Arc::new(health),
            denials,
            allowance,
            metrics,
            cut: CancellationToken::new(),
            _gone: gone.clone().drop_guard(),
            gone,
        }
    }

    /// The same code under another number, with nothing known against it and nobody running on it.
    pub(super) fn numbered(&self, version: u64, metrics: Arc<VersionMetrics>) -> Self {
        Self::of(version, metrics, Arc::clone(&self.code))
    }

    /// The same version anew: to be kept when this one is seen out, in case it is wanted again.
    pub(super) fn renewed(&self) -> Self {
        self.numbered(self.version, Arc::clone(&self.metrics))
    }

    /// Its number among the versions of its name, from 1; 0 before it is admitted.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What its component is.
    pub fn component(&self) -> &ComponentInfo {
        &self.code.component
    }

    /// Counts a request of this version that ended, for or against it.
    pub fn note(&self, conduct: Conduct, client: Option<PeerKey>) {
        self.health.note(conduct, client);
    }

    /// What is counted of this version.
    pub fn metrics(&self) -> &Arc<VersionMetrics> {
        &self.metrics
    }

    /// How full its guest's own gate is, over all versions with the same limits.
    pub fn usage(&self) -> Usage {
        self.code.rights.gates.usage()
    }

    /// How many outgoing connections its guest has open, over all versions with the same limits.
    pub fn outbound_connections(&self) -> usize {
        self.code.rights.outbound.open()
    }

    /// Where what it is denied is counted and told.
    pub(super) fn denials(&self) -> &Arc<Denials> {
        &self.denials
    }

    pub(super) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Cancelled when what still streams on this version is to end.
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Cancelled when nobody holds this version any more.
    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.code.name
    }

    /// Which `wasi:http` it speaks.
    pub fn world(&self) -> World {
        self.code.component.world
    }

    /// Whether it imports `cloakroom:http/session`. One that does not costs no store access and its answers are no
    /// transactions.
    pub fn imports_session(&self) -> bool {
        self.code.rights.imports_session
    }

    /// Whether it imports `cloakroom:http/cookies`: then its requests bring the jar.
    pub fn imports_cookies(&self) -> bool {
        self.code.rights.imports_cookies
    }

    /// What it may do with the session.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.code.grant
    }

    /// How its requests start. One that may have effects on the outside is not to find out late that it saw an old session.
    pub fn start(&self) -> Start {
        match self.code.start {
            Start::Optimistic if !self.code.outbound_hosts.is_empty() => Start::Fresh,
            start => start,
        }
    }

    /// What bounds it.
    pub fn limits(&self) -> &Limits {
        &self.code.limits
    }

    /// How it follows the version before it.
    pub(super) fn rollout(&self) -> &Rollout {
        &self.code.rollout
    }

    /// When its answers leave, and whether it reads bodies as they come.
    pub fn stream(&self) -> StreamPolicy {
        self.code.stream
    }

    pub(super) fn handler(&self) -> &Handler {
        &self.code.handler
    }

    pub(super) fn gates(&self) -> &Gates {
        &self.code.rights.gates
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.code.rights.lane
    }

    pub(super) fn habit(&self) -> &Arc<Habit> {
        &self.code.rights.habit
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.code.name
    }

    fn log(&self, request_id: &Arc<str>, attempt: u32) -> GuestLog {
        GuestLog::new(
            Arc::clone(&self.code.name),
            Arc::clone(request_id),
            attempt,
            &self.code.limits,
            Arc::clone(&self.allowance),
        )
    }

    /// An instance for one run: one that has served before, if one waits, else a store that it can be made in.
    pub(super) fn instance(&self, caller: Caller, request_id: &Arc<str>, attempt: u32) -> Instance {
        match self.shelf().and_then(|shelf| shelf.take()) {
            Some(mut instance) => {
                self.metrics.guest().reused();
                instance.renew(caller, request_id, attempt);
                instance
            }
            None => Instance::new(self.store(caller, self.log(request_id, attempt))),
        }
    }

    /// Makes an instance and calls nothing in it: what a request that reuses none waits for before its guest runs, for
    /// whoever measures that. Passes no gate. Dropping what it gives drops the instance.
    ///
    /// # Errors
    /// When the component cannot start.
    pub async fn instantiate(&self) -> wasmtime::Result<impl Send + use<>> {
        let log = self.log(&"instantiate".into(), 0);
        let mut instance = Instance::new(self.store(Caller::none(), log));
        instance.start(self.handler()).await?;
        Ok(instance)
    }

    /// Where its instances wait for another request, if they may serve more than one.
    pub(super) fn shelf(&self) -> Option<&Arc<Shelf>> {
        self.shelf.as_ref()
    }

    /// How many of its instances wait for another request; `None` if none ever does.
    pub fn parked(&self) -> Option<usize> {
        self.shelf().map(|shelf| shelf.len())
    }

    /// It takes no new requests: keeps no instance for one.
    pub(super) fn keep_no_instances(&self) {
        if let Some(shelf) = self.shelf() {
            shelf.close();
        }
    }

    /// A store for one run.
    fn store(&self, caller: Caller, log: GuestLog) -> Store<Context> {
        let outbound = Outbound {
            hosts: Arc::clone(&self.code.outbound_hosts),
            account: caller.account.clone(),
            tally: Tally::new(self.code.limits.memory_bytes_max),
            pool: Arc::clone(&self.code.rights.outbound),
            calls_max: self.code.limits.outbound_calls_max,
            patience: self.code.limits.deadline,
        };
        let environment = Arc::clone(&self.code.environment);
        context::store(
            &self.code.rights.engine,
            &self.code.limits,
            Belongings {
                environment,
                outbound,
                caller,
                log,
            },
        )
    }

    /// Makes one instance and drops it: a component that cannot start is found out here and not by a visitor. It has
    /// places of its own: a new version need not wait for the crowd before the old one.
    pub(super) fn try_once(&self, places: &Semaphore) -> Result<(), LoadError> {
        let refuse = |reason: String| LoadError::NotInstantiable {
            world: self.world(),
            reason,
        };
        let start_max = self.code.limits.deadline.min(limits::ADMISSION_DEADLINE);
        let attempt = async {
            // Each that has a place is done within `start_max`: this wait ends.
            let permit = places
                .acquire()
                .await
                .map_err(|closed| refuse(closed.to_string()))?;
            let mut store = self.store(Caller::none(), self.log(&"load".into(), 0));
            let made = self.code.handler.pre().instantiate_async(&mut store);
            let made = tokio::time::timeout(start_max, made).await;
            let refused_memory = store.data().refused_memory(&self.code.limits);
            store.data().log.finish();
            drop((store, permit));
            match (made, refused_memory) {
                (Ok(Ok(_)), _) => Ok(()),
                (Ok(Err(_)), Some(bytes_max)) => Err(LoadError::MemoryRefused {
                    world: self.world(),
                    bytes_max,
                }),
                (Ok(Err(error)), None) => Err(refuse(format!("{error:#}"))),
                (Err(_), _) => Err(refuse(format!("it did not start within {start_max:?}"))),
            }
        };
        block_on(attempt).map_err(|error| refuse(error.to_string()))?
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("name", &self.code.name)
            .field("version", &self.version)
            .field("digest", &self.component().digest)
            .field("world", &self.world())
            .field("imports_session", &self.code.rights.imports_session)
            .finish_non_exhaustive()
    }
}

/// Runs a future to its end on a thread of its own, so that it works whether or not the caller's thread drives a runtime.
fn block_on<F: Future<Output: Send> + Send>(future: F) -> std::io::Result<F::Output> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        Ok(runtime.block_on(future))
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(output) => output,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
