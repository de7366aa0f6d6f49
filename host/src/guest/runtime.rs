//! The runtime: both engines, what they offer to guests, and the guests loaded on them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::budget::{self, ADMISSIONS_AT_ONCE_MAX, BUDGET, Places};
use super::code::CodeSource;
use super::compiler::Target;
use super::context::Context;
use super::cookies_host;
use super::digest::Digest;
use super::engine::{self, Blueprint, Fingerprint, World};
use super::gate::{Gate, Gates, GuestGates, Usage};
use super::http_types;
use super::instance::Exports;
use super::lane::Lane;
use super::loaded::{Guest, Rights};
use super::loader::{self, ComponentInfo, LoadError, Outline};
use super::outbound::{GuestPools, OutboundUsage, Pool};
use super::session_host;
use super::settings::{GuestSettings, Options};

/// What runs guests. One per process is enough; it lives as long as the guests loaded on it.
#[derive(Debug)]
pub struct Runtime {
    wasi02: Arc<House>,
    wasi03: Arc<House>,
    code: Arc<CodeSource>,
    memory_bytes_max: usize,
    guest_gates: GuestGates,
    outbound: GuestPools,
    lane: Arc<Lane>,
    parked_idle_max: Duration,
}

/// One engine with what belongs to it.
struct House {
    engine: Engine,
    blueprint: Blueprint,
    fingerprint: Fingerprint,
    linker: Linker<Context>,
    gate: Arc<Gate>,
    /// Places for instances that wait for another request.
    parked: Arc<Semaphore>,
    /// Places for the first instances of candidates: a crowd of requests keeps no new version out.
    admissions: Arc<Semaphore>,
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
        engine::pagemap::report();
        let wasi02 = House::new(World::Wasi02, options)?;
        let wasi03 = House::new(World::Wasi03, options)?;
        engine::start_ticker(vec![wasi02.engine.weak(), wasi03.engine.weak()])?;
        Ok(Self {
            wasi02: Arc::new(wasi02),
            wasi03: Arc::new(wasi03),
            code: Arc::new(CodeSource::new(options)),
            memory_bytes_max: options.memory_bytes_max,
            guest_gates: GuestGates::default(),
            outbound: GuestPools::on(Pool::new(options.outbound_connections_max)),
            lane: Arc::new(Lane::start()?),
            parked_idle_max: options.parked_idle_max,
        })
    }

    /// Another runtime on the same engines, for a further host of this process: engines, their pools, threads, the bound of outgoing
    /// connections and the source of code are shared, the guests' own queues are not. It costs nothing.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            wasi02: Arc::clone(&self.wasi02),
            wasi03: Arc::clone(&self.wasi03),
            code: Arc::clone(&self.code),
            memory_bytes_max: self.memory_bytes_max,
            guest_gates: GuestGates::default(),
            outbound: self.outbound.beside(),
            lane: Arc::clone(&self.lane),
            parked_idle_max: self.parked_idle_max,
        }
    }

    /// How full its pools are.
    pub fn usage(&self) -> [(World, Usage); 2] {
        [
            (World::Wasi02, self.wasi02.gate.usage()),
            (World::Wasi03, self.wasi03.gate.usage()),
        ]
    }

    /// How many outgoing connections its guests have.
    pub fn outbound_usage(&self) -> OutboundUsage {
        self.outbound.usage()
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
        let outline = examined(bytes, memory_bytes_max)?;
        let house = self.house(outline.world);
        let begun = Instant::now();
        let digest = Digest::of(bytes);
        let code = self.code.of(bytes, digest, house.target())?;
        let handler = house.fit(&code.component, &outline)?;
        let gate = self.guest_gates.of(&settings.name, &settings.limits);
        let outbound_max = settings.limits.outbound_connections_max;
        let rights = Rights {
            outbound: self.outbound.of(&settings.name, outbound_max),
            imports_session: outline.imports(session_host::INTERFACE),
            imports_cookies: outline.imports(cookies_host::INTERFACE),
            engine: house.engine.clone(),
            gates: Gates::new(gate, Arc::clone(&house.gate)),
            lane: Arc::clone(&self.lane),
            parked: Arc::clone(&house.parked),
            parked_idle_max: self.parked_idle_max,
            habit: Arc::default(),
            _code: code.hold,
        };
        let component = ComponentInfo {
            digest,
            bytes: bytes.len() as u64,
            world: outline.world,
            imports: outline.imports,
            exports: outline.exports,
        };
        let guest = Guest::new(settings, component, handler, rights);
        guest.try_once(&house.admissions)?;
        tracing::info!(
            guest = guest.name(),
            digest = %format_args!("{digest:.12}"),
            code = code.origin.as_str(),
            elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "loaded a guest"
        );
        Ok(guest)
    }

    /// Whether a component compiles here and finds all that it imports; makes no instance of it. Blocks as [`Runtime::load`]
    /// does.
    ///
    /// # Errors
    /// As [`Runtime::load`], but for what only an instance would show.
    pub fn fit(&self, bytes: &[u8]) -> Result<(), LoadError> {
        loader::check_size("the component", bytes.len() as u64)?;
        let outline = examined(bytes, self.memory_bytes_max)?;
        let house = self.house(outline.world);
        let code = self.code.of(bytes, Digest::of(bytes), house.target())?;
        house.fit(&code.component, &outline).map(drop)
    }

    fn house(&self, world: World) -> &House {
        match world {
            World::Wasi02 => &self.wasi02,
            World::Wasi03 => &self.wasi03,
        }
    }

    /// Ends compiling for good, for those beside it, too: what is compiled now, and whatever is loaded later that is not on
    /// disk, is refused with [`LoadError::NotCompiled`]. For a host that stops and must not wait for a compiler.
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
            http_types::link_03(&mut linker)?;
        }
        http_types::link_02(&mut linker)?;
        session_host::link(&mut linker)?;
        cookies_host::link(&mut linker)?;
        let places = Places::of(options);
        let gate = Arc::new(Gate::new(
            places.running,
            options.instance_waiters_max,
            options.instance_wait_max,
        ));
        Ok(Self {
            engine,
            blueprint,
            fingerprint,
            linker,
            gate,
            parked: Arc::new(Semaphore::new(places.parked)),
            admissions: Arc::new(Semaphore::new(ADMISSIONS_AT_ONCE_MAX)),
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
                imports if !imports.is_empty() => LoadError::UnknownImports { imports },
                _ => match self.outdated_imports(component, outline) {
                    imports if imports.is_empty() => unfit(error),
                    imports => LoadError::Outdated { imports },
                },
            }
        })?;
        match world {
            World::Wasi02 => ProxyPre::new(pre).map(Handler::Wasi02).map_err(unfit),
            World::Wasi03 => ServicePre::new(pre).map(Handler::Wasi03).map_err(unfit),
        }
    }

    /// The imports of this host's own interfaces in which a function has another type than here. A function that this host does not
    /// have does not count: it is from a later version.
    fn outdated_imports(&self, component: &Component, outline: &Outline) -> Vec<String> {
        let ours: [(&str, Link); 2] = [
            (session_host::INTERFACE, session_host::link),
            (cookies_host::INTERFACE, cookies_host::link),
        ];
        // All imports that `link` does not define get the types that the component expects.
        let fits = |link: Link| {
            let mut linker = Linker::new(&self.engine);
            link(&mut linker)?;
            linker.define_unknown_imports_as_traps(component)?;
            linker.instantiate_pre(component).map(drop)
        };
        if fits(|_| Ok(())).is_err() {
            return Vec::new();
        }
        ours.into_iter()
            .filter(|(_, link)| fits(*link).is_err())
            .flat_map(|(interface, _)| outline.versions_of(interface))
            .cloned()
            .collect()
    }
}

/// Adds one of this host's own interfaces to a linker.
type Link = fn(&mut Linker<Context>) -> Result<()>;

/// Looks at a component before anything is spent on it: compiling it against a pool of smaller memories fails in words that name
/// no setting.
fn examined(bytes: &[u8], memory_bytes_max: usize) -> Result<Outline, LoadError> {
    let outline = loader::outline(bytes)?;
    let need = budget::need(bytes).map_err(|error| LoadError::Damaged {
        reason: error.to_string(),
    })?;
    BUDGET.check(outline.world, need)?;
    budget::check_memory(need, memory_bytes_max)?;
    Ok(outline)
}

/// A component ready to be instantiated.
#[derive(Clone)]
pub(super) enum Handler {
    Wasi02(ProxyPre<Context>),
    Wasi03(ServicePre<Context>),
}

impl Handler {
    /// Makes an instance.
    ///
    /// # Errors
    /// When the component cannot start.
    pub(super) async fn instantiate(&self, store: &mut Store<Context>) -> Result<Exports> {
        Ok(match self {
            Handler::Wasi02(pre) => Exports::Wasi02(pre.instantiate_async(store).await?),
            Handler::Wasi03(pre) => Exports::Wasi03(pre.instantiate_async(store).await?),
        })
    }

    pub(super) fn pre(&self) -> &InstancePre<Context> {
        match self {
            Handler::Wasi02(pre) => pre.instance_pre(),
            Handler::Wasi03(pre) => pre.instance_pre(),
        }
    }
}
