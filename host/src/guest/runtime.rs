//! The runtime: both engines, what they offer to guests, and the guests loaded on them.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::code::CodeSource;
use super::code_cache::Hold;
use super::compiler::Target;
use super::context::{self, Belongings, Context};
use super::digest::Digest;
use super::engine::{self, Blueprint, Fingerprint, World};
use super::gate::Gate;
use super::loader::{self, LoadError, Outline};
use super::log::GuestLog;
use super::outbound::{Effects, Outbound, OutboundHost};
use super::session_host::{self, Caller};
use super::settings::{GuestSettings, Limits, Options, StreamPolicy};
use crate::limits;
use crate::session::{Grant, Start};

/// What runs guests. One per process is enough; it lives as long as the guests loaded on it.
#[derive(Debug)]
pub struct Runtime {
    wasi02: House,
    wasi03: House,
    code: CodeSource,
    memory_bytes_max: usize,
}

/// One engine with what belongs to it.
struct House {
    engine: Engine,
    blueprint: Blueprint,
    fingerprint: Fingerprint,
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
            code: CodeSource::new(options),
            memory_bytes_max: options.memory_bytes_max,
        })
    }

    /// Loads a guest: reads its file, finds out its world, compiles it or takes the code that was kept, fits it to what the
    /// host offers and makes one instance of it.
    ///
    /// Takes milliseconds where the code was kept, else from a tenth of a second (Rust) to many seconds (an interpreter), and
    /// blocks: not for a thread that serves. Ends in any case: compiling has its limit ([`Options::compile_timeout`]), the
    /// instance the guest's deadline or 5 s, whichever is shorter.
    ///
    /// # Errors
    /// [`LoadError`] says what was found and what was wanted.
    pub fn load(&self, settings: GuestSettings) -> Result<Guest, LoadError> {
        let bytes = loader::read(&settings.component)?;
        self.load_bytes(settings, &bytes)
    }

    /// As [`Runtime::load`], from a component's bytes: `settings.component` is not looked at.
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
        loader::check_size("the component", bytes.len() as u64)?;
        let outline = loader::outline(bytes)?;
        let house = match outline.world {
            World::Wasi02 => &self.wasi02,
            World::Wasi03 => &self.wasi03,
        };
        let begun = Instant::now();
        let digest = Digest::of(bytes);
        let code = self.code.of(bytes, digest, house.target())?;
        let handler = house.fit(&code.component, &outline)?;
        let source = Source {
            digest,
            bytes: bytes.len() as u64,
            _code: code.hold,
        };
        let guest = Guest::new(settings, outline, source, house, handler);
        guest.try_once()?;
        tracing::info!(
            guest = guest.name(),
            digest = %format_args!("{digest:.12}"),
            code = code.origin.as_str(),
            elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "loaded a guest"
        );
        Ok(guest)
    }

    /// Ends compiling for good: what is compiled now, and whatever is loaded later that is not on disk, is refused with
    /// [`LoadError::NotCompiled`]. For a host that stops and must not wait for a compiler.
    pub fn stop_compiling(&self) {
        self.code.stop();
    }
}

impl House {
    fn new(world: World, options: &Options) -> Result<Self> {
        let (engine, blueprint) = engine::engine(world, options)?;
        let fingerprint = Fingerprint::of(&engine, world);
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
            blueprint,
            fingerprint,
            linker,
            gate,
        })
    }

    fn target(&self) -> Target<'_> {
        Target {
            engine: &self.engine,
            blueprint: self.blueprint,
            fingerprint: self.fingerprint,
        }
    }

    fn fit(&self, component: &Component, outline: &Outline) -> Result<Handler, LoadError> {
        let world = outline.world;
        let unfit = |error: wasmtime::Error| LoadError::Unfit {
            world,
            reason: format!("{error:#}"),
        };
        let pre = self.linker.instantiate_pre(component).map_err(|error| {
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

/// What a guest was made of.
#[derive(Debug)]
struct Source {
    digest: Digest,
    bytes: u64,
    /// Keeps its file in the cache while it serves.
    _code: Option<Hold>,
}

/// One loaded guest. `Debug` shows no environment.
pub struct Guest {
    name: Arc<str>,
    source: Source,
    outline: Outline,
    imports_session: bool,
    grant: Arc<Grant>,
    start: Start,
    stream: StreamPolicy,
    limits: Limits,
    environment: Arc<[(String, String)]>,
    outbound_hosts: Arc<[OutboundHost]>,
    engine: Engine,
    gate: Arc<Gate>,
    handler: Handler,
}

impl Guest {
    fn new(
        settings: GuestSettings,
        outline: Outline,
        source: Source,
        house: &House,
        handler: Handler,
    ) -> Self {
        Self {
            name: settings.name.into(),
            source,
            imports_session: outline.imports_session(),
            outline,
            grant: Arc::new(settings.grant),
            start: settings.start,
            stream: settings.stream,
            limits: settings.limits,
            environment: settings.environment.into(),
            outbound_hosts: settings.outbound_hosts.into(),
            engine: house.engine.clone(),
            gate: Arc::clone(&house.gate),
            handler,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which `wasi:http` it speaks.
    pub fn world(&self) -> World {
        self.outline.world
    }

    /// The SHA-256 of its component.
    pub fn digest(&self) -> Digest {
        self.source.digest
    }

    /// The size of its component, in bytes.
    pub fn component_bytes(&self) -> u64 {
        self.source.bytes
    }

    /// The names of what its component imports, in the component's order.
    pub fn imports(&self) -> &[String] {
        &self.outline.imports
    }

    /// The names of the interfaces and functions that its component exports, in the component's order.
    pub fn exports(&self) -> &[String] {
        &self.outline.exports
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

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
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

    /// Makes one instance and drops it: a component that cannot start is found out here and not by a visitor.
    fn try_once(&self) -> Result<(), LoadError> {
        let refuse = |reason: String| LoadError::NotInstantiable {
            world: self.outline.world,
            reason,
        };
        let start_max = self.limits.deadline.min(limits::ADMISSION_DEADLINE);
        let attempt = async {
            let permit = self
                .gate
                .enter(Instant::now() + self.limits.deadline)
                .await
                .map_err(|failure| refuse(failure.to_string()))?;
            let mut store = self.store(
                Caller::none(),
                Effects::default(),
                self.log(&"load".into(), 0),
            );
            let made = self.handler.pre().instantiate_async(&mut store);
            let made = tokio::time::timeout(start_max, made).await;
            let refused_memory = store.data().refused_memory(&self.limits);
            store.data().log.finish();
            drop((store, permit));
            match (made, refused_memory) {
                (Ok(Ok(_)), _) => Ok(()),
                (Ok(Err(_)), Some(limit)) => Err(refuse(format!(
                    "it needs more memory than its limit of {limit} bytes"
                ))),
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
            .field("name", &self.name)
            .field("digest", &self.source.digest)
            .field("world", &self.outline.world)
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
