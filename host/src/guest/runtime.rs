//! The runtime: both engines, what they offer to guests, and the guests loaded on them.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Result};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use super::context::Context;
use super::engine::{self, World};
use super::gate::{Gate, Gates, GuestGates};
use super::lane::Lane;
use super::loader::{self, ComponentInfo, Digest, LoadError, Outline};
use super::loaded::{Guest, Rights};
use super::session_host;
use super::settings::{GuestSettings, Options};

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
        let gate = self.guest_gates.of(&settings.name, &settings.limits);
        let rights = Rights {
            engine: house.engine.clone(),
            gates: Gates::new(gate, Arc::clone(&house.gate)),
            lane: Arc::clone(&self.lane),
        };
        let guest = Guest::new(settings, component, imports_session, handler, rights);
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
#[derive(Clone)]
pub(super) enum Handler {
    Wasi02(ProxyPre<Context>),
    Wasi03(ServicePre<Context>),
}

impl Handler {
    pub(super) fn pre(&self) -> &InstancePre<Context> {
        match self {
            Handler::Wasi02(pre) => pre.instance_pre(),
            Handler::Wasi03(pre) => pre.instance_pre(),
        }
    }
}
