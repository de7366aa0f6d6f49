//! The runtime: both engines, what they offer to guests, and the guests loaded on them.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::context::{self, Belongings, Context};
use super::engine::{self, World};
use super::gate::{Gate, Gates, GuestGates};
use super::lane::{Habit, Lane};
use super::loader::{self, LoadError, Outline};
use super::log::GuestLog;
use super::outbound::{Effects, Outbound, OutboundHost};
use super::session_host::{self, Caller};
use super::settings::{GuestSettings, Limits, Options, StreamPolicy};
use crate::session::{Grant, Start};

/// What runs guests. One per process is enough; it lives as long as the guests loaded on it.
#[derive(Debug)]
pub struct Runtime {
    wasi02: House,
    wasi03: House,
    memory_bytes_max: usize,
    guest_gates: GuestGates,
    lane: Arc<Lane>,
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
    /// Makes both engines, starts their ticker and the slow lane.
    ///
    /// # Errors
    /// When the machine does not let us have the address space of the pools or the threads.
    pub fn new(options: &Options) -> Result<Self> {
        engine::report_pagemap_scan();
        let wasi02 = House::new(World::Wasi02, options)?;
        let wasi03 = House::new(World::Wasi03, options)?;
        engine::start_ticker(vec![wasi02.engine.weak(), wasi03.engine.weak()])?;
        Ok(Self {
            wasi02,
            wasi03,
            memory_bytes_max: options.memory_bytes_max,
            guest_gates: GuestGates::default(),
            lane: Arc::new(Lane::start()?),
        })
    }

    /// Loads a guest: reads its file, finds out its world, compiles it, fits it to what the host offers and makes one
    /// instance of it.
    ///
    /// Takes from tens of milliseconds (Rust) to many seconds (an interpreter), and blocks: not for a thread that serves.
    ///
    /// # Errors
    /// [`LoadError`] says what was found and what was wanted.
    pub fn load(&self, settings: GuestSettings) -> Result<Guest, LoadError> {
        let memory_bytes_max = settings.limits.memory_bytes_max;
        if memory_bytes_max > self.memory_bytes_max {
            let bound = self.memory_bytes_max;
            let reason =
                format!("the memory limit of {memory_bytes_max} bytes is above the pool's {bound}");
            return Err(LoadError::Settings { reason });
        }
        let bytes = loader::read(&settings.component)?;
        let outline = loader::outline(&bytes)?;
        let house = match outline.world {
            World::Wasi02 => &self.wasi02,
            World::Wasi03 => &self.wasi03,
        };
        let handler = house.fit(&bytes, &outline)?;
        let gate = self.guest_gates.of(&settings.name, &settings.limits);
        let gates = Gates::new(gate, Arc::clone(&house.gate));
        let guest = Guest::new(settings, &outline, house, handler, gates, &self.lane);
        guest.try_once(&house.gate)?;
        Ok(guest)
    }
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

/// One loaded guest. `Debug` shows no environment.
pub struct Guest {
    name: Arc<str>,
    world: World,
    imports_session: bool,
    grant: Arc<Grant>,
    start: Start,
    stream: StreamPolicy,
    limits: Limits,
    environment: Arc<[(String, String)]>,
    outbound_hosts: Arc<[OutboundHost]>,
    engine: Engine,
    gates: Gates,
    lane: Arc<Lane>,
    habit: Arc<Habit>,
    handler: Handler,
}

impl Guest {
    fn new(
        settings: GuestSettings,
        outline: &Outline,
        house: &House,
        handler: Handler,
        gates: Gates,
        lane: &Arc<Lane>,
    ) -> Self {
        Self {
            name: settings.name.into(),
            world: outline.world,
            imports_session: outline.imports_session(),
            grant: Arc::new(settings.grant),
            start: settings.start,
            stream: settings.stream,
            limits: settings.limits,
            environment: settings.environment.into(),
            outbound_hosts: settings.outbound_hosts.into(),
            engine: house.engine.clone(),
            gates,
            lane: Arc::clone(lane),
            habit: Arc::default(),
            handler,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which `wasi:http` it speaks.
    pub fn world(&self) -> World {
        self.world
    }

    /// Whether it imports `cloakroom:http/session`. One that does not costs no store access and its answers are no
    /// transactions.
    pub fn imports_session(&self) -> bool {
        self.imports_session
    }

    /// What it may do with the session.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// Whether its requests wait for their turn before they start.
    pub fn start(&self) -> Start {
        self.start
    }

    /// What bounds it.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn stream(&self) -> StreamPolicy {
        self.stream
    }

    pub(super) fn handler(&self) -> &Handler {
        &self.handler
    }

    pub(super) fn gates(&self) -> &Gates {
        &self.gates
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    pub(super) fn habit(&self) -> &Arc<Habit> {
        &self.habit
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn log(&self, request_id: &Arc<str>, attempt: u32) -> GuestLog {
        GuestLog::new(
            Arc::clone(&self.name),
            Arc::clone(request_id),
            attempt,
            &self.limits,
        )
    }

    /// A store for one run.
    pub(super) fn store(&self, caller: Caller, effects: Effects, log: GuestLog) -> Store<Context> {
        let outbound = Outbound {
            hosts: Arc::clone(&self.outbound_hosts),
            effects,
            calls_max: self.limits.outbound_calls_max,
            patience: self.limits.deadline,
        };
        let environment = Arc::clone(&self.environment);
        context::store(
            &self.engine,
            &self.limits,
            Belongings {
                environment,
                outbound,
                caller,
                log,
            },
        )
    }

    /// Makes one instance and drops it: a component that cannot start is found out here and not by a visitor. It passes
    /// the pool's gate alone: a new version need not wait for the crowd before the old one.
    fn try_once(&self, pool: &Gate) -> Result<(), LoadError> {
        let refuse = |reason: String| LoadError::NotInstantiable {
            world: self.world,
            reason,
        };
        let attempt = async {
            let deadline = Instant::now() + self.limits.deadline;
            let permit = pool
                .enter(deadline)
                .await
                .map_err(|failure| refuse(failure.to_string()))?;
            let mut store = self.store(
                Caller::none(),
                Effects::default(),
                self.log(&"load".into(), 0),
            );
            let made = self.handler.pre().instantiate_async(&mut store);
            let made = tokio::time::timeout_at(deadline.into(), made).await;
            let refused_memory = store.data().refused_memory(&self.limits);
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
                    self.limits.deadline
                ))),
            }
        };
        block_on(attempt).map_err(|error| refuse(error.to_string()))?
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("name", &self.name)
            .field("world", &self.world)
            .field("imports_session", &self.imports_session)
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
