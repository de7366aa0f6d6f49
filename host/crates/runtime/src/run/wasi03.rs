//! One run of a `wasi:http` 0.3 guest: one `handle` task and what it spawns.

use std::future::poll_fn;

use wasmtime::component::Accessor;
use wasmtime::{Result, Store};
use wasmtime_wasi_http::p3::{Request, bindings::Service};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use super::driver::{ResponseSlot, TasksDone};
use super::head::IncomingRequest;
use crate::interfaces::context::GuestContext;
use crate::run::error::GuestFailure;
use crate::run::request::BodyReader;

/// Runs the guest. The response is sent through `answer` in the meantime.
///
/// Ends by itself only if the guest fails. When no task is left, it sets `tasks_done` and goes on moving the bytes that the guest left in
/// its body's stream. The driver notices the end of the body, and then drops the run or lets it end.
pub(crate) async fn run(
    store: &mut Store<GuestContext>,
    guest: &Service,
    request: IncomingRequest<BodyReader>,
    answer: ResponseSlot,
    tasks_done: TasksDone,
) -> Result<()> {
    store
        .run_concurrent(async |accessor| {
            handle(accessor, guest, request, answer, &tasks_done).await
        })
        .await?
}

async fn handle(
    accessor: &Accessor<GuestContext>,
    guest: &Service,
    request: IncomingRequest<BodyReader>,
    answer: ResponseSlot,
    tasks_done: &TasksDone,
) -> Result<()> {
    let request = accessor.with(|mut store| incoming(store.get(), request));
    match guest.handle(accessor, request).await? {
        Ok(response) => {
            // Reports success to the guest at once, because the guest may wait for this result before its task ends. The host takes over
            // the body here.
            let response =
                accessor.with(|mut store| response.into_http(&mut store, async { Ok(()) }))?;
            answer.give(Ok(response));
        }
        Err(code) => {
            answer.give(Err(GuestFailure::error_code(code)));
        }
    }
    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
    tasks_done.set();
    poll_fn(|_| tasks_done.poll_end()).await;
    Ok(())
}

fn incoming(context: &mut GuestContext, request: IncomingRequest<BodyReader>) -> Request {
    let http = context.http();
    let headers = FieldMap::new_immutable(http.hooks, request.headers);
    let (scheme, authority, path) = (
        Some(request.scheme),
        Some(request.authority),
        request.path_with_query,
    );
    // The guest's result of reading the body is not needed here.
    let (request, _taken_in) = Request::new(
        request.method,
        scheme,
        authority,
        path,
        headers,
        None,
        request.body,
    );
    request
}
