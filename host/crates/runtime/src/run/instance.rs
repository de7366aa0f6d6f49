//! One instance with its store, and the state that is replaced when it serves another request. This module does not know how an instance is
//! run, or where it is kept between two requests.

use std::sync::Arc;

use wasmtime::component::InstancePre;
use wasmtime::{Result, Store};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};

use crate::interfaces::log::GuestLog;

use crate::interfaces::RequestState;
use crate::interfaces::context::GuestContext;

/// Most resources in the host that a guest may still hold after a request, if its instance is to be reused. Its standard streams, and
/// resources that a garbage collector has not freed yet, are fewer. A guest that holds more never frees them, and would sooner or later
/// reach the limit of one instance.
const RESOURCES_HELD_MAX: usize = 256;

/// A component ready to be instantiated.
#[derive(Clone)]
pub(crate) enum PreparedGuest {
    Wasi02(ProxyPre<GuestContext>),
    Wasi03(ServicePre<GuestContext>),
}

impl PreparedGuest {
    /// Makes an instance.
    ///
    /// # Errors
    /// Returns an error if the component cannot start.
    pub(crate) async fn instantiate(
        &self,
        store: &mut Store<GuestContext>,
    ) -> Result<InstanceExports> {
        Ok(match self {
            PreparedGuest::Wasi02(pre) => {
                InstanceExports::Wasi02(pre.instantiate_async(store).await?)
            }
            PreparedGuest::Wasi03(pre) => {
                InstanceExports::Wasi03(pre.instantiate_async(store).await?)
            }
        })
    }

    pub(crate) fn pre(&self) -> &InstancePre<GuestContext> {
        match self {
            PreparedGuest::Wasi02(pre) => pre.instance_pre(),
            PreparedGuest::Wasi03(pre) => pre.instance_pre(),
        }
    }
}

/// An instance, or a store in which the instance is still to be created.
pub(crate) struct GuestInstance {
    pub(crate) store: Store<GuestContext>,
    exports: Option<InstanceExports>,
    /// Number of requests that it has begun to serve.
    uses: u32,
}

/// The exports of an instance that the host calls.
pub(crate) enum InstanceExports {
    Wasi02(Proxy),
    Wasi03(Service),
}

impl GuestInstance {
    pub(crate) fn new(store: Store<GuestContext>) -> Self {
        Self {
            store,
            exports: None,
            uses: 0,
        }
    }

    /// Creates the instance, unless it exists from an earlier request.
    ///
    /// # Errors
    /// Fails if the component cannot start.
    pub(crate) async fn start(
        &mut self,
        prepared: &PreparedGuest,
    ) -> Result<(&mut Store<GuestContext>, &InstanceExports)> {
        self.uses += 1;
        let exports = match self.exports.take() {
            Some(exports) => exports,
            None => prepared.instantiate(&mut self.store).await?,
        };
        Ok((&mut self.store, self.exports.insert(exports)))
    }

    /// Returns the log of the request that it serves.
    pub(crate) fn log(&self) -> &GuestLog {
        &self.store.data().log
    }

    /// Forgets the request that it has served. Returns whether it may serve another one, if it may serve at most `uses_max` requests.
    pub(crate) fn retire(&mut self, uses_max: u32) -> bool {
        let context = self.store.data_mut();
        context.forget_request();
        self.uses < uses_max
            && !context.has_refused_memory()
            && context.resources_held() <= RESOURCES_HELD_MAX
    }

    /// Prepares the instance for another request.
    pub(crate) fn renew(
        &mut self,
        request_state: RequestState,
        request_id: &Arc<str>,
        attempt: u32,
    ) {
        let context = self.store.data_mut();
        context.start_request(request_state);
        context.log.renew(request_id, attempt);
        // The last tick has long passed, so without this the guest would yield its thread before its first instruction.
        self.store.set_epoch_deadline(1);
    }
}
