//! The host's state of one instance: a nearly empty WASI context, the outbound client, the log, and the session of the one request that the
//! instance runs at a time.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Result, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::types::HostIncomingResponse;
use wasmtime_wasi_http::{FieldMap, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::RequestState;
use super::fields::fields_size;
use super::log::GuestLog;
use super::outbound::OutboundClient;
use crate::engine::budget::BUDGET;
use crate::engine::memory_tally::MemoryRefused;
use crate::engine::resource_charges::{ResourceCharges, ResourceLimits};

use crate::settings::GuestLimits;

/// Most data that a guest may pass to the host in one call, in bytes. The duration of a call grows with it.
pub(crate) const CALL_BYTES_MAX: usize = 512 << 10;
/// Most random bytes that a guest gets in one call.
pub(crate) const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Largest set of header fields that a guest may build, as stored in memory, in bytes.
const FIELDS_BYTES_MAX: usize = 128 << 10;

/// The data of a `wasmtime::Store`.
pub(crate) struct GuestContext {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: OutboundClient,
    charges: ResourceCharges,
    pub(crate) request_state: RequestState,
    pub(crate) log: GuestLog,
}

/// The parts that a [`GuestContext`] is made from, in addition to the guest's limits.
pub(crate) struct ContextParts {
    pub(crate) environment: Arc<[(String, String)]>,
    pub(crate) outbound: OutboundClient,
    pub(crate) request_state: RequestState,
    pub(crate) log: GuestLog,
}

/// Creates the store of one instance.
pub(crate) fn store(
    engine: &Engine,
    limits: &GuestLimits,
    parts: ContextParts,
) -> Store<GuestContext> {
    let mut store = Store::new(engine, GuestContext::new(limits, parts));
    store.limiter(|context| context);
    store.set_hostcall_fuel(CALL_BYTES_MAX);
    store.set_max_component_handles(ResourceLimits::of(limits.memory_bytes_max).handles);
    // The guest yields its thread at each tick. tokio's own yield queues the guest behind every ready task and lets the I/O driver run.
    // Wasmtime's plain yield would resume at once and starve both.
    store.epoch_deadline_callback(|_| {
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
    store.set_epoch_deadline(1);
    store
}

impl GuestContext {
    fn new(limits: &GuestLimits, parts: ContextParts) -> Self {
        let ContextParts {
            environment,
            outbound,
            request_state,
            log,
        } = parts;
        let mut table = ResourceTable::new();
        table.set_max_capacity(ResourceLimits::of(limits.memory_bytes_max).resources);
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
            charges: ResourceCharges::new(tally),
            request_state,
            log,
        }
    }

    /// Returns the memory limit in bytes if the guest was refused memory.
    pub(crate) fn refused_memory(&self, limits: &GuestLimits) -> Option<usize> {
        self.has_refused_memory().then_some(limits.memory_bytes_max)
    }

    /// Returns whether the guest was refused memory.
    pub(crate) fn has_refused_memory(&self) -> bool {
        self.charges.tally().has_refused()
    }

    /// Charges a resource for bytes that the host keeps for it from now on.
    ///
    /// # Errors
    /// [`MemoryRefused`].
    pub(crate) fn charge(&mut self, resource: u32, bytes: usize) -> Result<(), MemoryRefused> {
        self.charges.charge(&mut self.table, resource, bytes)
    }

    /// Charges a resource that was just created, like [`GuestContext::charge`].
    ///
    /// # Errors
    /// [`MemoryRefused`].
    pub(crate) fn charge_new(&mut self, resource: u32, bytes: usize) -> Result<(), MemoryRefused> {
        self.charges.charge_new(&mut self.table, resource, bytes)
    }

    /// Charges the whole size of a set of fields that was just created.
    ///
    /// # Errors
    /// [`MemoryRefused`], or an error if the resource is not a set of fields.
    pub(crate) fn charge_fields(&mut self, fields: &Resource<FieldMap>) -> Result<()> {
        let bytes = fields_size(self.table.get(fields)?);
        Ok(self.charge_new(fields.rep(), bytes)?)
    }

    /// Charges a response for its head alone. The head no longer counts with the body, which has been separated from it.
    ///
    /// # Errors
    /// [`MemoryRefused`], or an error if the resource is not a response.
    pub(crate) fn charge_head(&mut self, answer: &Resource<HostIncomingResponse>) -> Result<()> {
        let bytes = fields_size(&self.table.get(answer)?.headers);
        Ok(self.charge_new(answer.rep(), bytes)?)
    }

    /// Drops charges of resources that no longer exist, if there may be many. The call that follows cannot do so itself.
    pub(crate) fn make_room(&mut self) {
        self.charges.make_room(&mut self.table);
    }

    /// Removes and returns the charge of a resource whose bytes move to another resource.
    pub(crate) fn take_charge(&mut self, resource: u32) -> usize {
        self.charges.take(resource)
    }

    /// Keeps the charge of a dropped resource until the request ends.
    ///
    /// # Errors
    /// [`MemoryRefused`].
    pub(crate) fn keep_charge(&mut self, resource: u32) -> Result<(), MemoryRefused> {
        let bytes = self.charges.take(resource);
        self.charges.keep(&mut self.table, bytes)
    }

    /// Returns how many resources the guest holds in the host.
    pub(crate) fn resources_held(&mut self) -> usize {
        self.table.iter_mut().count()
    }

    /// Drops the state of the request that was served, above all its session.
    pub(crate) fn forget_request(&mut self) {
        self.start_request(RequestState::none());
    }

    /// Attributes calls to another request from now on.
    pub(crate) fn start_request(&mut self, request_state: RequestState) {
        self.outbound.accounting = request_state.accounting.clone();
        self.charges.release_retained();
        self.request_state = request_state;
    }
}

/// Builds a WASI context without files or arguments, and with an empty stdin. Sockets and name look-ups are refused explicitly, in case the
/// builder's defaults change.
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

/// Decides whether an instance gets more memory or a longer table.
impl ResourceLimiter for GuestContext {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            self.charges.tally().refuse();
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        Ok(self.charges.add(&mut self.table, more).is_ok())
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

impl WasiView for GuestContext {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for GuestContext {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound,
        }
    }
}
