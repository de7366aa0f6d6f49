//! One instance with its store, and what is exchanged in it when it serves another request. Knows nothing of how it is run
//! or of where it waits between two requests.

use std::sync::Arc;

use wasmtime::{Result, Store};
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p3::bindings::Service;

use super::caller::Caller;
use super::context::Context;
use super::log::GuestLog;
use super::runtime::Handler;

/// Resources on the host's side that a guest may still hold after a request and be kept all the same. Its standard
/// streams and what a garbage collector has not come by yet are fewer; who holds more gives nothing back, and would run
/// into the limit of one instance sooner or later.
const RESOURCES_HELD_MAX: usize = 256;

/// An instance, or a store that waits for its instance to be made in it.
pub(super) struct Instance {
    pub(super) store: Store<Context>,
    exports: Option<Exports>,
    /// The requests that it has begun to serve.
    uses: u32,
}

/// What the host calls in an instance.
pub(super) enum Exports {
    Wasi02(Proxy),
    Wasi03(Service),
}

impl Instance {
    pub(super) fn new(store: Store<Context>) -> Self {
        Self {
            store,
            exports: None,
            uses: 0,
        }
    }

    /// Makes the instance, unless it is there from an earlier request.
    ///
    /// # Errors
    /// When the component cannot start.
    pub(super) async fn start(
        &mut self,
        handler: &Handler,
    ) -> Result<(&mut Store<Context>, &Exports)> {
        self.uses += 1;
        let exports = match self.exports.take() {
            Some(exports) => exports,
            None => handler.instantiate(&mut self.store).await?,
        };
        Ok((&mut self.store, self.exports.insert(exports)))
    }

    /// The lines of the request that it serves.
    pub(super) fn log(&self) -> &GuestLog {
        &self.store.data().log
    }

    /// Forgets the request that it has served; whether it may serve another one, of at most `uses_max`.
    pub(super) fn retire(&mut self, uses_max: u32) -> bool {
        let context = self.store.data_mut();
        context.forget_request();
        self.uses < uses_max
            && !context.has_refused_memory()
            && context.resources_held() <= RESOURCES_HELD_MAX
    }

    /// Takes up another request.
    pub(super) fn renew(&mut self, caller: Caller, request_id: &Arc<str>, attempt: u32) {
        let context = self.store.data_mut();
        context.take_up_request(caller);
        context.log.renew(request_id, attempt);
        // Its tick has long passed: it would let go of its thread before its first instruction.
        self.store.set_epoch_deadline(1);
    }
}
