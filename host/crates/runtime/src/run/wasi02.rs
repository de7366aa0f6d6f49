//! One run of a `wasi:http` 0.2 guest: one call of `handle`.

use wasmtime::{Result, Store};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::driver::ResponseSlot;
use super::head::IncomingRequest;
use crate::interfaces::context::GuestContext;
use crate::run::error::GuestFailure;
use crate::run::request::BodyReader;

/// Runs the guest until `handle` has returned. The response is sent through `answer` in the meantime.
pub(crate) async fn run(
    store: &mut Store<GuestContext>,
    guest: &Proxy,
    request: IncomingRequest<BodyReader>,
    answer: ResponseSlot,
) -> Result<()> {
    let scheme = if request.scheme == http::uri::Scheme::HTTPS {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let request = store
        .data_mut()
        .http()
        .new_incoming_request(scheme, request.into_http())?;
    let outparam = store
        .data_mut()
        .http()
        .new_response_outparam_from_callback(move |response| {
            answer.give(response.map_err(GuestFailure::error_code));
        })?;
    guest
        .wasi_http_incoming_handler()
        .call_handle(&mut *store, request, outparam)
        .await
}
