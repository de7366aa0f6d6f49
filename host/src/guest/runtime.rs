//! The runtime: both engines, what they offer to guests, and the guests loaded on them.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::context::{self, Belongings, Context};
use super::engine::{self, World};
use super::gate::Gate;
use super::health::{Conduct, Health};
use super::loader::{self, ComponentInfo, Digest, LoadError, Outline};
use super::log::GuestLog;
use super::outbound::{Effects, Outbound, OutboundHost};
use super::session_host::{self, Caller};
use super::settings::{GuestSettings, Limits, Options, Rollout, StreamPolicy};
use crate::session::{Grant, Start};
use crate::telemetry::metrics::{GuestMetrics, VersionMetrics};

/// What runs guests. One per process is enough; it lives as long as the guests loaded on it.
#[derive(Debug)]
pub struct Runtime {
    wasi02: House,
    wasi03: House,
    memory_bytes_max: usize,
}

/// One engine with what belongs to it.
struct House {
    engine: Engine,
    linker: Linker<Context>,
    gate: Arc<Gate>,
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Makes both engines and starts their ticker.
    ///
    /// # Errors
    /// When the machine does not let us have the address space of the pools or a thread.
    pub fn new(options: &Options) -> Result<Self> {
        engine::report_pagemap_scan();
        let wasi02 = House::new(World::Wasi02, options)?;
        let wasi03 = House::new(World::Wasi03, options)?;
        engine::start_ticker(vec![wasi02.engine.weak(), wasi03.engine.weak()])?;
        Ok(Self {
            wasi02,
            wasi03,
            memory_bytes_max: options.memory_bytes_max,
        })
    }

    /// How full its pools are.
    pub fn usage(&self) -> [PoolUsage; 2] {
        [
            self.wasi02.gate.usage(World::Wasi02),
            self.wasi03.gate.usage(World::Wasi03),
        ]
    }

    /// Loads a guest: reads its file, finds out its world, compiles it, fits it to what the host offers and makes one
    /// instance of it.
    ///
    /// Takes from tens of milliseconds (Rust) to many seconds (an interpreter), and blocks: not for a thread that serves.
    ///
    /// # Errors
    /// [`LoadError`] says what was found and what was wanted.
    pub fn load(&self, settings: GuestSettings) -> Result<Guest, LoadError> {
        let bytes = loader::read(&settings.component)?;
        self.load_bytes(settings, &bytes)
    }

    /// As [`Runtime::load`], with the component's bytes at hand; the file that the settings name is not read.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    pub fn load_bytes(&self, settings: GuestSettings, bytes: &[u8]) -> Result<Guest, LoadError> {
        let memory_bytes_max = settings.limits.memory_bytes_max;
        if memory_bytes_max > self.memory_bytes_max {
            let bound = self.memory_bytes_max;
            let reason =
                format!("the memory limit of {memory_bytes_max} bytes is above the pool's {bound}");
            return Err(LoadError::Settings { reason });
        }
        let outline = loader::outline(bytes)?;
        let house = match outline.world {
            World::Wasi02 => &self.wasi02,
            World::Wasi03 => &self.wasi03,
        };
        let handler = house.fit(bytes, &outline)?;
        let imports_session = outline.imports_session();
        let component = ComponentInfo {
            digest: Digest::of(bytes),
            bytes: bytes.len() as u64,
            world: outline.world,
            imports: outline.imports,
            exports: outline.exports,
        };
        let guest = Guest::new(settings, component, imports_session, house, handler);
        guest.try_once()?;
        Ok(guest)
    }
}

/// How full the pool of one world's instances is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Whose instances.
    pub world: World,
    /// Instances that run.
    pub in_use: usize,
    /// Instances that may run.
    pub limit: usize,
    /// Requests that wait for one.
    pub waiting: usize,
}

impl House {
    fn new(world: World, options: &Options) -> Result<Self> {
        let engine = engine::engine(world, options)?;
        let mut linker = Linker::new(&engine);
        // All of WASI, most of it empty: compiled languages import files and sockets that their programs never use.
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        if world == World::Wasi03 {
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
            wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        }
        session_host::link(&mut linker)?;
        let gate = Arc::new(Gate::new(
            options.instances_max,
            options.instance_waiters_max,
            options.instance_wait_max,
        ));
        Ok(Self {
            engine,
            linker,
            gate,
        })
    }

    fn fit(&self, bytes: &[u8], outline: &Outline) -> Result<Handler, LoadError> {
        let world = outline.world;
        let unfit = |error: wasmtime::Error| LoadError::Unfit {
            world,
            reason: format!("{error:#}"),
        };
        let component = Component::from_binary(&self.engine, bytes).map_err(unfit)?;
        let pre = self.linker.instantiate_pre(&component).map_err(|error| {
            match outline.unknown_imports() {
                imports if imports.is_empty() => unfit(error),
                imports => LoadError::UnknownImports { imports },
            }
        })?;
        match world {
            World::Wasi02 => ProxyPre::new(pre).map(Handler::Wasi02).map_err(unfit),
            World::Wasi03 => ServicePre::new(pre).map(Handler::Wasi03).map_err(unfit),
        }
    }
}

/// A component ready to be instantiated.
#[derive(Clone)]
pub(super) enum Handler {
    Wasi02(ProxyPre<Context>),
    Wasi03(ServicePre<Context>),
}

impl Handler {
    fn pre(&self) -> &InstancePre<Context> {
        match self {
            Handler::Wasi02(pre) => pre.instance_pre(),
            Handler::Wasi03(pre) => pre.instance_pre(),
        }
    }
}

/// One version of a guest, loaded. `Debug` shows no environment.
pub struct Guest {
    version: u64,
    code: Arc<Code>,
    health: Arc<Health>,
    metrics: Arc<VersionMetrics>,
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
    imports_session: bool,
    grant: Arc<Grant>,
    start: Start,
    stream: StreamPolicy,
    limits: Limits,
    environment: Arc<[(String, String)]>,
    outbound_hosts: Arc<[OutboundHost]>,
    rollout: Rollout,
    engine: Engine,
    gate: Arc<Gate>,
    handler: Handler,
}

impl Guest {
    fn new(
        settings: GuestSettings,
        component: ComponentInfo,
        imports_session: bool,
        house: &House,
        handler: Handler,
    ) -> Self {
        // A candidate's own: nobody scrapes them.
        let metrics = GuestMetrics::new(&settings.name).version(0);
        Self::of(
            0,
            metrics,
            Arc::new(Code {
                name: settings.name.into(),
                component,
                imports_session,
                grant: Arc::new(settings.grant),
                start: settings.start,
                stream: settings.stream,
                limits: settings.limits,
                environment: settings.environment.into(),
                outbound_hosts: settings.outbound_hosts.into(),
                rollout: settings.rollout,
                engine: house.engine.clone(),
                gate: Arc::clone(&house.gate),
                handler,
            }),
        )
    }

    fn of(version: u64, metrics: Arc<VersionMetrics>, code: Arc<Code>) -> Self {
        let thresholds = code.rollout.rollback.map(|rollback| rollback.thresholds);
        let gone = CancellationToken::new();
        let health = Health::new(thresholds).counted_in(Arc::clone(&metrics));
        Self {
            version,
            code,
            health: Arc::new(health),
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
    pub fn note(&self, conduct: Conduct) {
        self.health.note(conduct);
    }

    /// What is counted of this version.
    pub fn metrics(&self) -> &Arc<VersionMetrics> {
        &self.metrics
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
        self.code.imports_session
    }

    /// What it may do with the session.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.code.grant
    }

    /// Whether its requests wait for their turn before they start.
    pub fn start(&self) -> Start {
        self.code.start
    }

    /// What bounds it.
    pub fn limits(&self) -> &Limits {
        &self.code.limits
    }

    /// How it follows the version before it.
    pub(super) fn rollout(&self) -> &Rollout {
        &self.code.rollout
    }

    pub(super) fn stream(&self) -> StreamPolicy {
        self.code.stream
    }

    pub(super) fn handler(&self) -> &Handler {
        &self.code.handler
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.code.gate
    }

    pub(super) fn log(&self, request_id: &Arc<str>, attempt: u32) -> GuestLog {
        GuestLog::new(
            Arc::clone(&self.code.name),
            Arc::clone(request_id),
            attempt,
            &self.code.limits,
        )
    }

    /// A store for one run.
    pub(super) fn store(&self, caller: Caller, effects: Effects, log: GuestLog) -> Store<Context> {
        let outbound = Outbound {
            hosts: Arc::clone(&self.code.outbound_hosts),
            effects,
            patience: self.code.limits.deadline,
        };
        let environment = Arc::clone(&self.code.environment);
        context::store(
            &self.code.engine,
            &self.code.limits,
            Belongings {
                environment,
                outbound,
                caller,
                log,
            },
        )
    }

    /// Makes one instance and drops it: a component that cannot start is found out here and not by a visitor.
    fn try_once(&self) -> Result<(), LoadError> {
        let refuse = |reason: String| LoadError::NotInstantiable {
            world: self.world(),
            reason,
        };
        let attempt = async {
            let deadline = Instant::now() + self.code.limits.deadline;
            let permit = self
                .gate()
                .enter(deadline)
                .await
                .map_err(|failure| refuse(failure.to_string()))?;
            let mut store = self.store(
                Caller::none(),
                Effects::default(),
                self.log(&"load".into(), 0),
            );
            let made = self.code.handler.pre().instantiate_async(&mut store);
            let made = tokio::time::timeout_at(deadline.into(), made).await;
            let refused_memory = store.data().refused_memory(&self.code.limits);
            store.data().log.finish();
            drop((store, permit));
            match (made, refused_memory) {
                (Ok(Ok(_)), _) => Ok(()),
                (Ok(Err(_)), Some(limit)) => Err(refuse(format!(
                    "it needs more memory than its limit of {limit} bytes"
                ))),
                (Ok(Err(error)), None) => Err(refuse(format!("{error:#}"))),
                (Err(_), _) => Err(refuse(format!(
                    "it did not start within {:?}",
                    self.code.limits.deadline
                ))),
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
            .field("world", &self.world())
            .field("imports_session", &self.code.imports_session)
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
