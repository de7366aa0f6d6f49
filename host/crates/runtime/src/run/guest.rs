//! A loaded version of a guest: its code, its grants and its health.
//!
//! A [`Guest`] has everything that a run needs. `Invocation` drives the runs, and `Deployment` decides which version
//! serves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::{Engine, Store};

use super::health::{RequestOutcome, VersionHealth};
use crate::engine::GuestWorld;
use crate::engine::memory_tally::MemoryTally;
use crate::interfaces::context;
use crate::interfaces::context::{ContextParts, GuestContext};
use crate::interfaces::denials::DenialCounters;
use crate::interfaces::log::{GuestLog, LineAllowance};
use crate::interfaces::outbound::{GuestPool, OutboundClient, OutboundHost};
use crate::interfaces::{GuestInterfaces, RequestState, grants, session};
use crate::load::code_cache::FileInUse;
use crate::load::loader::{ComponentInfo, LoadError};
use crate::run::background::{BackgroundPool, SlowHistory};
use crate::run::concurrency::{ConcurrencyLimits, LimitUsage};
use crate::run::guest_settings::{GuestSettings, Rollout};
use crate::run::idle::IdleInstances;
use crate::run::instance::{GuestInstance, PreparedGuest};
use crate::settings::{GuestLimits, StreamPolicy};
use cloakroom_base::limits;
use cloakroom_base::quota::PeerKey;
use cloakroom_base::telemetry::metrics::{GuestMetrics, VersionMetrics};
use cloakroom_session::{SessionGrant, VisitStart};

/// A loaded version of a guest. `Debug` omits the environment.
pub struct Guest {
    version: u64,
    code: Arc<GuestCode>,
    health: Arc<VersionHealth>,
    metrics: Arc<VersionMetrics>,
    denials: Arc<DenialCounters>,
    /// The log allowance that all runs of this version share.
    allowance: Arc<LineAllowance>,
    /// The idle instances, if instances may serve more than one request.
    idle_instances: Option<Arc<IdleInstances>>,
    /// Cancelled when the time for this version's remaining requests is over.
    cut: CancellationToken,
    /// Cancelled when the last reference to this version is dropped.
    gone: CancellationToken,
    _gone: DropGuard,
}

/// The parts that all versions made from one component and one set of settings share.
struct GuestCode {
    name: Arc<str>,
    component: ComponentInfo,
    interfaces: GuestInterfaces,
    start: VisitStart,
    stream: StreamPolicy,
    reuse: u32,
    limits: GuestLimits,
    environment: Arc<[(String, String)]>,
    rollout: Rollout,
    resources: GuestResources,
    prepared: PreparedGuest,
}

/// The resources that the runtime gives to a guest: its engine, its concurrency limits, its outgoing connections and the
/// background pool for long computations.
pub(crate) struct GuestResources {
    pub(crate) engine: Engine,
    pub(crate) concurrency_limits: ConcurrencyLimits,
    pub(crate) outbound: Arc<GuestPool>,
    pub(crate) background: Arc<BackgroundPool>,
    pub(crate) slow_history: Arc<SlowHistory>,
    /// Permits for idle instances. `instance_idle_max` is the longest time that an instance stays idle.
    pub(crate) idle_permits: Arc<Semaphore>,
    pub(crate) instance_idle_max: Duration,
    /// Keeps the guest's file in the code cache while the guest serves.
    pub(crate) _code: Option<FileInUse>,
}

impl Guest {
    pub(crate) fn new(
        settings: GuestSettings,
        component: ComponentInfo,
        prepared: PreparedGuest,
        resources: GuestResources,
    ) -> Self {
        // Metrics of a candidate are private: they are never exported.
        let metrics = GuestMetrics::new(&settings.name, grants()).version(0);
        Self::of(
            0,
            metrics,
            Arc::new(GuestCode {
                name: settings.name.into(),
                interfaces: GuestInterfaces::new(&component.imports, settings.grants),
                component,
                start: settings.start,
                stream: settings.stream,
                reuse: settings.reuse,
                limits: settings.limits,
                environment: settings.environment.into(),
                rollout: settings.rollout,
                resources,
                prepared,
            }),
        )
    }

    fn of(version: u64, metrics: Arc<VersionMetrics>, code: Arc<GuestCode>) -> Self {
        let thresholds = code.rollout.rollback.map(|rollback| rollback.thresholds);
        let gone = CancellationToken::new();
        let health = VersionHealth::new(thresholds).with_metrics(Arc::clone(&metrics));
        let denials = DenialCounters::new(Arc::clone(&code.name), Arc::clone(metrics.guest()));
        let log_rate = code.limits.log_bytes_per_s_max;
        let allowance = LineAllowance::new(log_rate, Arc::clone(metrics.guest()));
        let resources = &code.resources;
        let idle_instances = (code.reuse > 1).then(|| {
            let (permits, background) = (
                Arc::clone(&resources.idle_permits),
                Arc::clone(&resources.background),
            );
            IdleInstances::new(code.reuse, resources.instance_idle_max, permits, background)
        });
        Self {
            version,
            idle_instances,
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

    /// Returns the same code under another version number, with fresh health and no runs.
    pub(crate) fn numbered(&self, version: u64, metrics: Arc<VersionMetrics>) -> Self {
        Self::of(version, metrics, Arc::clone(&self.code))
    }

    /// Returns a fresh copy of this version. The deployment keeps it for a rollback while this one drains.
    pub(crate) fn renewed(&self) -> Self {
        self.numbered(self.version, Arc::clone(&self.metrics))
    }

    /// Returns the version number, counted from 1 for each guest name. It is 0 before the version is deployed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the description of the component.
    pub fn component(&self) -> &ComponentInfo {
        &self.code.component
    }

    /// Counts the outcome of a request in this version's health.
    pub fn note(&self, outcome: RequestOutcome, client: Option<PeerKey>) {
        self.health.note(outcome, client);
    }

    /// Returns the metrics of this version.
    pub fn metrics(&self) -> &Arc<VersionMetrics> {
        &self.metrics
    }

    /// Returns the usage of the guest's own concurrency limit, over all versions with the same limits.
    pub fn usage(&self) -> LimitUsage {
        self.code.resources.concurrency_limits.usage()
    }

    /// Returns the number of the guest's open outgoing connections, over all versions with the same limits.
    pub fn outbound_connections(&self) -> usize {
        self.code.resources.outbound.open()
    }

    /// Returns the counters of this version's grant denials.
    pub(crate) fn denials(&self) -> &Arc<DenialCounters> {
        &self.denials
    }

    pub(crate) fn health(&self) -> Arc<VersionHealth> {
        Arc::clone(&self.health)
    }

    /// Returns the token that is cancelled when bodies that this version still streams must end.
    pub(crate) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Returns the token that is cancelled when the last reference to this version is dropped.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Returns the guest's name.
    pub fn name(&self) -> &str {
        &self.code.name
    }

    /// Returns the version of `wasi:http` that the component implements.
    pub fn world(&self) -> GuestWorld {
        self.code.component.world
    }

    /// Returns whether the component imports `cloakroom:http/session`. Requests of a guest without this import need no
    /// store access, and their responses are not transactions.
    pub fn imports_session(&self) -> bool {
        self.code.interfaces.imports(session::NAME)
    }

    /// Returns the interfaces that the component imports, and the guest's grants on them.
    pub(crate) fn interfaces(&self) -> &GuestInterfaces {
        &self.code.interfaces
    }

    /// Returns the guest's permissions on the session.
    pub fn grant(&self) -> &Arc<SessionGrant> {
        &self.code.interfaces.grants.session
    }

    /// Returns how the guest's requests start. A guest with outgoing HTTP is never started optimistically: it may have
    /// caused outside effects before it learns that it saw an old session.
    pub fn start(&self) -> VisitStart {
        match self.code.start {
            VisitStart::Optimistic if !self.outbound_hosts().is_empty() => VisitStart::Fresh,
            start => start,
        }
    }

    fn outbound_hosts(&self) -> &Arc<[OutboundHost]> {
        &self.code.interfaces.grants.outbound_hosts
    }

    /// Returns the guest's limits.
    pub fn limits(&self) -> &GuestLimits {
        &self.code.limits
    }

    /// Returns the rollout settings, which say how this version replaces its predecessor.
    pub(crate) fn rollout(&self) -> &Rollout {
        &self.code.rollout
    }

    /// Returns when the guest's responses are released and whether it reads bodies while they arrive.
    pub fn stream(&self) -> StreamPolicy {
        self.code.stream
    }

    pub(crate) fn prepared(&self) -> &PreparedGuest {
        &self.code.prepared
    }

    pub(crate) fn concurrency_limits(&self) -> &ConcurrencyLimits {
        &self.code.resources.concurrency_limits
    }

    pub(crate) fn background(&self) -> &Arc<BackgroundPool> {
        &self.code.resources.background
    }

    pub(crate) fn slow_history(&self) -> &Arc<SlowHistory> {
        &self.code.resources.slow_history
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
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

    /// Returns an instance for one run: an idle instance if there is one, else a store to make the instance in.
    pub(crate) fn instance(
        &self,
        request_state: RequestState,
        request_id: &Arc<str>,
        attempt: u32,
    ) -> GuestInstance {
        match self
            .idle_instances()
            .and_then(|idle_instances| idle_instances.take())
        {
            Some(mut instance) => {
                self.metrics.guest().reused();
                instance.renew(request_state, request_id, attempt);
                instance
            }
            None => GuestInstance::new(self.store(request_state, self.log(request_id, attempt))),
        }
    }

    /// Makes an instance and calls nothing in it. Its duration is the time that a request which reuses no instance
    /// waits before its guest runs. No concurrency limit applies. Dropping the returned value drops the instance.
    ///
    /// # Errors
    /// Returns an error if the component cannot start.
    pub async fn instantiate(&self) -> wasmtime::Result<impl Send + use<>> {
        let log = self.log(&"instantiate".into(), 0);
        let mut instance = GuestInstance::new(self.store(RequestState::none(), log));
        instance.start(self.prepared()).await?;
        Ok(instance)
    }

    /// Returns the idle instances, if instances may serve more than one request.
    pub(crate) fn idle_instances(&self) -> Option<&Arc<IdleInstances>> {
        self.idle_instances.as_ref()
    }

    /// Returns the number of idle instances, or `None` if the guest's instances are never reused.
    pub fn idle_count(&self) -> Option<usize> {
        self.idle_instances()
            .map(|idle_instances| idle_instances.len())
    }

    /// Drops the idle instances and keeps no further ones, because this version gets no new requests.
    pub(crate) fn keep_no_instances(&self) {
        if let Some(idle_instances) = self.idle_instances() {
            idle_instances.close();
        }
    }

    /// Makes a store for one run.
    fn store(&self, request_state: RequestState, log: GuestLog) -> Store<GuestContext> {
        let outbound = OutboundClient {
            hosts: Arc::clone(self.outbound_hosts()),
            accounting: request_state.accounting.clone(),
            tally: MemoryTally::new(self.code.limits.memory_bytes_max),
            pool: Arc::clone(&self.code.resources.outbound),
            calls_max: self.code.limits.outbound_calls_max,
            timeout_max: self.code.limits.deadline,
        };
        let environment = Arc::clone(&self.code.environment);
        context::store(
            &self.code.resources.engine,
            &self.code.limits,
            ContextParts {
                environment,
                outbound,
                request_state,
                log,
            },
        )
    }

    /// Makes one instance and drops it, so that a component that cannot start fails here and not for a visitor.
    /// `permits` are separate permits, so that a new version need not wait behind the requests of the old one.
    pub(crate) fn try_once(&self, permits: &Semaphore) -> Result<(), LoadError> {
        let refuse = |reason: String| LoadError::NotInstantiable {
            world: self.world(),
            reason,
        };
        let start_max = self.code.limits.deadline.min(limits::DEPLOY_DEADLINE);
        let attempt = async {
            // Each holder of a permit is done within `start_max`, so this wait ends.
            let permit = permits
                .acquire()
                .await
                .map_err(|closed| refuse(closed.to_string()))?;
            let mut store = self.store(RequestState::none(), self.log(&"load".into(), 0));
            let made = self.code.prepared.pre().instantiate_async(&mut store);
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
            .field("imports_session", &self.imports_session())
            .finish_non_exhaustive()
    }
}

/// Runs a future to completion on a new thread. This works whether or not the caller's thread drives a tokio runtime.
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
