//! What one instance holds on the host's side: its WASI context with next to nothing in it, its way out, its log, and the
//! session of the one request that it runs at a time.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::caller::Caller;
use super::limiter::Limiter;
use super::log::GuestLog;
use super::outbound::Outbound;
use super::settings::Limits;

/// Most resources (headers, bodies, pollables, ...) that an instance may hold on the host's side at once.
const RESOURCES_MAX: usize = 4096;
/// Most handles of resources that an instance may hold, its own included.
const HANDLES_MAX: usize = 16_384;
/// Most data that a guest may pass to the host in one call, in bytes.
const CALL_BYTES_MAX: usize = 4 << 20;
/// Largest set of header fields that a guest may build, as it lies in memory, in bytes.
const FIELDS_BYTES_MAX: usize = 128 << 10;

/// The data of one `wasmtime::Store`.
pub(super) struct Context {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    limiter: Limiter,
    pub(super) caller: Caller,
    pub(super) log: GuestLog,
}

/// What a [`Context`] is made from, besides the guest's limits.
pub(super) struct Belongings {
    pub(super) environment: Arc<[(String, String)]>,
    pub(super) outbound: Outbound,
    pub(super) caller: Caller,
    pub(super) log: GuestLog,
}

/// Makes the store of one instance.
pub(super) fn store(engine: &Engine, limits: &Limits, belongings: Belongings) -> Store<Context> {
    let mut store = Store::new(engine, Context::new(limits, belongings));
    store.limiter(|context| &mut context.limiter);
    store.set_hostcall_fuel(CALL_BYTES_MAX);
    store.set_max_component_handles(HANDLES_MAX);
    // The guest lets go of the thread at each tick. tokio's own yield puts it behind everything that is ready, and lets
    // the I/O driver run: Wasmtime's plain yield would come back at once and starve both.
    store.epoch_deadline_callback(|_| {
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
    store.set_epoch_deadline(1);
    store
}

impl Context {
    fn new(limits: &Limits, belongings: Belongings) -> Self {
        let Belongings {
            environment,
            outbound,
            caller,
            log,
        } = belongings;
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        let wasi = wasi(&environment, &log);
        let limiter = Limiter::new(limits.memory_bytes_max);
        Self {
            table,
            wasi,
            http,
            outbound,
            limiter,
            caller,
            log,
        }
    }

    /// The limit that memory was refused at, in bytes, if any was.
    pub(super) fn refused_memory(&self, limits: &Limits) -> Option<usize> {
        self.has_refused_memory().then_some(limits.memory_bytes_max)
    }

    /// Whether any memory was refused.
    pub(super) fn has_refused_memory(&self) -> bool {
        self.limiter.has_refused()
    }

    /// How many resources the guest holds on the host's side.
    pub(super) fn resources_held(&mut self) -> usize {
        self.table.iter_mut().count()
    }

    /// Lets go of the request that was served: of its session above all.
    pub(super) fn forget_request(&mut self) {
        self.take_up_request(Caller::none());
    }

    /// Calls are those of another request from now on.
    pub(super) fn take_up_request(&mut self, caller: Caller) {
        self.outbound.account = caller.account.clone();
        self.caller = caller;
    }
}

/// No files, no arguments, an empty stdin. Sockets and name look-ups stay refused, and are so by name here, in case the
/// builder's defaults ever change.
fn wasi(environment: &[(String, String)], log: &GuestLog) -> WasiCtx {
    WasiCtxBuilder::new()
        .envs(environment)
        .stdout(log.stdout())
        .stderr(log.stderr())
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Context {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound,
        }
    }
}
