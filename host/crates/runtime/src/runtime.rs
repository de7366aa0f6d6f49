//! The runtime: both engines, the interfaces they offer to guests, and the resources that all guests share.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Result};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::engine::budget::{DEPLOYS_AT_ONCE_MAX, InstanceCounts};
use super::engine::{self, EngineFingerprint, EngineSettings, GuestWorld};
use super::interfaces::context::GuestContext;
use super::interfaces::outbound::{GuestPools, OutboundPool, OutboundUsage};
use super::interfaces::{INTERFACES, Interface};
use super::load::budget_check;
use super::load::code::CodeSource;
use super::load::compiler::CompileTarget;
use super::load::digest::ComponentDigest;
use super::load::loader;
use super::load::loader::{ComponentInfo, ComponentOutline, LoadError};
use super::load::need;
use super::run::background::BackgroundPool;
use super::run::concurrency::{
    ConcurrencyLimit, ConcurrencyLimits, GuestConcurrencyLimits, LimitUsage,
};
use super::run::guest::{Guest, GuestResources};
use super::run::guest_settings::GuestSettings;
use super::run::instance::PreparedGuest;
use super::settings::RuntimeOptions;

/// The engines and shared resources that run guests. One per process is enough. It lives as long as the guests loaded
/// on it.
#[derive(Debug)]
pub struct Runtime {
    wasi02: Arc<WorldRuntime>,
    wasi03: Arc<WorldRuntime>,
    code: Arc<CodeSource>,
    memory_bytes_max: usize,
    guest_concurrency: GuestConcurrencyLimits,
    outbound: GuestPools,
    background: Arc<BackgroundPool>,
    instance_idle_max: Duration,
}

/// One engine and its linker, limits and permits.
struct WorldRuntime {
    engine: Engine,
    engine_settings: EngineSettings,
    fingerprint: EngineFingerprint,
    linker: Linker<GuestContext>,
    concurrency_limit: Arc<ConcurrencyLimit>,
    /// Permits for idle instances.
    idle_permits: Arc<Semaphore>,
    /// Permits for the first instances of candidates. They are separate, so that many requests cannot block a new
    /// version.
    deploy_permits: Arc<Semaphore>,
}

impl fmt::Debug for WorldRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorldRuntime")
            .field("concurrency_limit", &self.concurrency_limit)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Makes both engines and starts their ticker and the background pool.
    ///
    /// # Errors
    /// Returns an error if the system does not provide the address space of the pools or the threads.
    pub fn new(options: &RuntimeOptions) -> Result<Self> {
        engine::pagemap::report();
        let wasi02 = WorldRuntime::new(GuestWorld::Wasi02, options)?;
        let wasi03 = WorldRuntime::new(GuestWorld::Wasi03, options)?;
        engine::start_ticker(vec![wasi02.engine.weak(), wasi03.engine.weak()])?;
        Ok(Self {
            wasi02: Arc::new(wasi02),
            wasi03: Arc::new(wasi03),
            code: Arc::new(CodeSource::new(options)),
            memory_bytes_max: options.memory_bytes_max,
            guest_concurrency: GuestConcurrencyLimits::default(),
            outbound: GuestPools::on(OutboundPool::new(options.outbound_connections_max)),
            background: Arc::new(BackgroundPool::start(options.background_after)?),
            instance_idle_max: options.instance_idle_max,
        })
    }

    /// Returns another runtime on the same engines, for another host in this process. The engines, their pools, the
    /// threads, the limit on outgoing connections and the source of code are shared. The guests' concurrency limits are
    /// not. The call is cheap.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            wasi02: Arc::clone(&self.wasi02),
            wasi03: Arc::clone(&self.wasi03),
            code: Arc::clone(&self.code),
            memory_bytes_max: self.memory_bytes_max,
            guest_concurrency: GuestConcurrencyLimits::default(),
            outbound: self.outbound.beside(),
            background: Arc::clone(&self.background),
            instance_idle_max: self.instance_idle_max,
        }
    }

    /// Returns the usage of each engine's instance pool.
    pub fn usage(&self) -> [(GuestWorld, LimitUsage); 2] {
        [
            (GuestWorld::Wasi02, self.wasi02.concurrency_limit.usage()),
            (GuestWorld::Wasi03, self.wasi03.concurrency_limit.usage()),
        ]
    }

    /// Returns the usage of outgoing connections.
    pub fn outbound_usage(&self) -> OutboundUsage {
        self.outbound.usage()
    }

    /// Loads a guest. It reads the file, determines the world, compiles the component or takes the code from the cache,
    /// links it to the host's interfaces, and makes one instance of it.
    ///
    /// This takes milliseconds if the code is in the cache. Compiling takes from a tenth of a second (Rust) to many
    /// seconds (an interpreter). The call blocks, so a thread that serves requests must not make it. It always ends:
    /// compiling is limited by [`RuntimeOptions::compile_timeout`], and making the instance by the guest's deadline or 5 s,
    /// whichever is shorter.
    ///
    /// # Errors
    /// Returns a [`LoadError`] that names the value found and the value expected.
    pub fn load(&self, settings: GuestSettings) -> Result<Guest, LoadError> {
        let bytes = loader::read(&settings.component)?;
        self.load_bytes(settings, &bytes)
    }

    /// Loads a guest from a component's bytes, like [`Runtime::load`]. It ignores `settings.component`.
    ///
    /// # Errors
    /// The same as [`Runtime::load`].
    pub fn load_bytes(&self, settings: GuestSettings, bytes: &[u8]) -> Result<Guest, LoadError> {
        let memory_bytes_max = settings.limits.memory_bytes_max;
        if memory_bytes_max > self.memory_bytes_max {
            let bound = self.memory_bytes_max;
            let reason =
                format!("the memory limit of {memory_bytes_max} bytes is above the pool's {bound}");
            return Err(LoadError::Settings { reason });
        }
        loader::check_size("the component", bytes.len() as u64)?;
        let outline = examined(bytes, memory_bytes_max)?;
        let world_runtime = self.world_runtime(outline.world);
        let begun = Instant::now();
        let digest = ComponentDigest::of(bytes);
        let code = self.code.of(bytes, digest, world_runtime.target())?;
        let prepared = world_runtime.fit(&code.component, &outline)?;
        let concurrency_limit = self.guest_concurrency.of(&settings.name, &settings.limits);
        let outbound_max = settings.limits.outbound_connections_max;
        let resources = GuestResources {
            outbound: self.outbound.of(&settings.name, outbound_max),
            engine: world_runtime.engine.clone(),
            concurrency_limits: ConcurrencyLimits::new(
                concurrency_limit,
                Arc::clone(&world_runtime.concurrency_limit),
            ),
            background: Arc::clone(&self.background),
            idle_permits: Arc::clone(&world_runtime.idle_permits),
            instance_idle_max: self.instance_idle_max,
            slow_history: Arc::default(),
            _code: code.file_in_use,
        };
        let component = ComponentInfo {
            digest,
            bytes: bytes.len() as u64,
            world: outline.world,
            imports: outline.imports,
            exports: outline.exports,
        };
        let guest = Guest::new(settings, component, prepared, resources);
        guest.try_once(&world_runtime.deploy_permits)?;
        tracing::info!(
            guest = guest.name(),
            digest = %format_args!("{digest:.12}"),
            code = code.origin.as_str(),
            elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "loaded a guest"
        );
        Ok(guest)
    }

    /// Checks that a component compiles and that the host offers all its imports, without making an instance. It blocks
    /// like [`Runtime::load`].
    ///
    /// # Errors
    /// The same as [`Runtime::load`], except those that only an instance can cause.
    pub fn fit(&self, bytes: &[u8]) -> Result<(), LoadError> {
        loader::check_size("the component", bytes.len() as u64)?;
        let outline = examined(bytes, self.memory_bytes_max)?;
        let world_runtime = self.world_runtime(outline.world);
        let code = self
            .code
            .of(bytes, ComponentDigest::of(bytes), world_runtime.target())?;
        world_runtime.fit(&code.component, &outline).map(drop)
    }

    fn world_runtime(&self, world: GuestWorld) -> &WorldRuntime {
        match world {
            GuestWorld::Wasi02 => &self.wasi02,
            GuestWorld::Wasi03 => &self.wasi03,
        }
    }

    /// Stops compiling permanently, also for runtimes made with [`Runtime::beside`]. Compilations in progress, and
    /// later loads of components whose code is not in the cache, fail with [`LoadError::NotCompiled`]. A host that
    /// stops calls this so that it need not wait for a compiler.
    pub fn stop_compiling(&self) {
        self.code.stop();
    }
}

impl WorldRuntime {
    fn new(world: GuestWorld, options: &RuntimeOptions) -> Result<Self> {
        let (engine, engine_settings) = engine::engine(world, options)?;
        let fingerprint = EngineFingerprint::of(&engine, world);
        let mut linker = Linker::new(&engine);
        // The linker offers all of WASI, most of it without effect, because compiled languages import files and sockets
        // that their programs never use.
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        if world == GuestWorld::Wasi03 {
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        }
        for interface in INTERFACES {
            (interface.link)(&mut linker, world)?;
        }
        let counts = InstanceCounts::of(options);
        let concurrency_limit = Arc::new(ConcurrencyLimit::new(
            counts.running,
            options.instance_waiters_max,
            options.instance_wait_max,
        ));
        Ok(Self {
            engine,
            engine_settings,
            fingerprint,
            linker,
            concurrency_limit,
            idle_permits: Arc::new(Semaphore::new(counts.idle)),
            deploy_permits: Arc::new(Semaphore::new(DEPLOYS_AT_ONCE_MAX)),
        })
    }

    fn target(&self) -> CompileTarget<'_> {
        CompileTarget {
            engine: &self.engine,
            engine_settings: self.engine_settings,
            fingerprint: self.fingerprint,
        }
    }

    fn fit(
        &self,
        component: &Component,
        outline: &ComponentOutline,
    ) -> Result<PreparedGuest, LoadError> {
        let world = outline.world;
        let unfit = |error: wasmtime::Error| LoadError::Unfit {
            world,
            reason: format!("{error:#}"),
        };
        let pre = self.linker.instantiate_pre(component).map_err(|error| {
            match outline.unknown_imports() {
                imports if !imports.is_empty() => LoadError::UnknownImports { imports },
                _ => match self.outdated_imports(component, outline) {
                    imports if imports.is_empty() => unfit(error),
                    imports => LoadError::Outdated { imports },
                },
            }
        })?;
        match world {
            GuestWorld::Wasi02 => ProxyPre::new(pre).map(PreparedGuest::Wasi02).map_err(unfit),
            GuestWorld::Wasi03 => ServicePre::new(pre)
                .map(PreparedGuest::Wasi03)
                .map_err(unfit),
        }
    }

    /// Returns the imports of this host's own interfaces in which a function has another type than here. A function that this host
    /// does not have is from a later version, and does not count.
    fn outdated_imports(&self, component: &Component, outline: &ComponentOutline) -> Vec<String> {
        // All imports that `link` does not define get the types that the component expects.
        let fits = |interface: Option<&Interface>| {
            let mut linker = Linker::new(&self.engine);
            if let Some(interface) = interface {
                (interface.link)(&mut linker, outline.world)?;
            }
            linker.define_unknown_imports_as_traps(component)?;
            linker.instantiate_pre(component).map(drop)
        };
        if fits(None).is_err() {
            return Vec::new();
        }
        INTERFACES
            .iter()
            .filter(|interface| interface.is_own() && fits(Some(interface)).is_err())
            .flat_map(|interface| interface.imports)
            .flat_map(|name| outline.versions_of(name))
            .cloned()
            .collect()
    }
}

/// Checks a component before it is compiled. Compiling a component that is too large for the pool's memories fails with
/// an error that names no setting.
fn examined(bytes: &[u8], memory_bytes_max: usize) -> Result<ComponentOutline, LoadError> {
    let outline = loader::outline(bytes)?;
    let need = need::need(bytes).map_err(|error| LoadError::Damaged {
        reason: error.to_string(),
    })?;
    budget_check::check(outline.world, need)?;
    budget_check::check_memory(need, memory_bytes_max)?;
    Ok(outline)
}
