//! What one instance holds on the host's side: its WASI context with next to nothing in it, its way out, its log, and the
//! session of the one request that it runs at a time.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Result, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::types::HostIncomingResponse;
use wasmtime_wasi_http::{FieldMap, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::budget::BUDGET;
use super::caller::Caller;
use super::holdings::{Counts, Holdings};
use super::http_types;
use super::log::GuestLog;
use super::outbound::Outbound;
use super::settings::Limits;
use super::tally::Refused;

/// Most data that a guest may pass to the host in one call, in bytes. The time that a call takes grows with it.
pub(super) const CALL_BYTES_MAX: usize = 512 << 10;
/// Most random bytes that a guest gets in one call.
pub(super) const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Largest set of header fields that a guest may build, as it lies in memory, in bytes.
const FIELDS_BYTES_MAX: usize = 128 << 10;

/// The data of one `wasmtime::Store`.
pub(super) struct Context {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    holdings: Holdings,
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
    store.limiter(|context| context);
    store.set_hostcall_fuel(CALL_BYTES_MAX);
    store.set_max_component_handles(Counts::of(limits.memory_bytes_max).handles);
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
        table.set_max_capacity(Counts::of(limits.memory_bytes_max).resources);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        let wasi = wasi(&environment, &log);
        let tally = outbound.tally.clone();
        log.charge_to(tally.clone());
        Self {
            table,
            wasi,
            http,
            outbound,
            holdings: Holdings::new(tally),
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
        self.holdings.tally().has_refused()
    }

    /// Charges a resource for bytes that the host keeps for it from now on.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn charge(&mut self, resource: u32, bytes: usize) -> Result<(), Refused> {
        self.holdings.charge(&mut self.table, resource, bytes)
    }

    /// As [`Context::charge`], for a resource that was made just now.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn charge_new(&mut self, resource: u32, bytes: usize) -> Result<(), Refused> {
        self.holdings.charge_new(&mut self.table, resource, bytes)
    }

    /// Charges a set of fields that was made just now, whole.
    ///
    /// # Errors
    /// [`Refused`], and when it is none.
    pub(super) fn charge_fields(&mut self, fields: &Resource<FieldMap>) -> Result<()> {
        let bytes = http_types::fields_size(self.table.get(fields)?);
        Ok(self.charge_new(fields.rep(), bytes)?)
    }

    /// Charges an answer for its head, which no longer counts with its body: that goes its own way.
    ///
    /// # Errors
    /// [`Refused`], and when it is none.
    pub(super) fn charge_head(&mut self, answer: &Resource<HostIncomingResponse>) -> Result<()> {
        let bytes = http_types::fields_size(&self.table.get(answer)?.headers);
        Ok(self.charge_new(answer.rep(), bytes)?)
    }

    /// Drops charges of resources that have gone, if there may be many: the call that follows cannot.
    pub(super) fn make_room(&mut self) {
        self.holdings.make_room(&mut self.table);
    }

    /// The charge of a resource whose bytes go to another one.
    pub(super) fn take_charge(&mut self, resource: u32) -> usize {
        self.holdings.take(resource)
    }

    /// Keeps the charge of a resource that goes, up to the request's end.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn keep_charge(&mut self, resource: u32) -> Result<(), Refused> {
        let bytes = self.holdings.take(resource);
        self.holdings.keep(&mut self.table, bytes)
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
        self.holdings.forget_kept();
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
        .max_random_size(RANDOM_BYTES_MAX)
        .build()
}

/// Asked before an instance gets memory or a longer table.
impl ResourceLimiter for Context {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            self.holdings.tally().refuse();
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        Ok(self.holdings.add(&mut self.table, more).is_ok())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        Ok(desired <= BUDGET.table_elements)
    }
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
