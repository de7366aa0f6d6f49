//! The functions of `wasi:http/types` that make the host keep bytes for a guest. Each charges them to the instance's memory
//! limit and goes on to wasmtime's own function, in front of which it stands in the linker.
//!
//! | what is kept | charged |
//! | --- | --- |
//! | header fields | as they grow; a clone, or those of a request or response, hold all of them at once |
//! | a request or response that the guest makes | its fields, method, target and authority, and the pieces of its body that wait |
//! | an answer from another server | its head: with its body, and with its resource once the body was taken out |
//! | trailers | up to the end of the guest's request; those that arrive, with their resource (WASI 0.2) |
//!
//! Trailers that arrive in WASI 0.3 come through a future, which has no function here: there is one set for each body that arrives.

use http::HeaderMap;
use wasmtime::component::{Access, FutureReader, Linker, LinkerInstance, Resource, StreamReader};
use wasmtime::{AsContextMut as _, Result, StoreContextMut};
use wasmtime_wasi_http::p2::bindings::http::types as types02;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::p3::bindings::http::types as types03;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{FieldMap, WasiHttp, WasiHttpView};

use super::context::Context;
use super::outbound::BODY_CHUNK_BYTES_MAX;

/// The interface as wasmtime's bindings name it, in each world.
const TYPES_02: &str = "wasi:http/types@0.2.12";
const TYPES_03: &str = "wasi:http/types@0.3.0";

/// What a header field takes besides its bytes: its entry in a map that may be half empty, and its allocations.
const FIELD_OVERHEAD_BYTES: usize = 256;
/// What the body of a request or response takes: two pieces that wait, and their queue.
const BODY_BYTES: usize = 2 * BODY_CHUNK_BYTES_MAX + (4 << 10);

type Store<'a> = StoreContextMut<'a, Context>;
type Fields = Resource<FieldMap>;
type Trailers<E> = FutureReader<std::result::Result<Option<Fields>, E>>;

/// A result of the interface, or a trap.
macro_rules! answer {
    ($result:expr) => {
        match $result {
            Ok(value) => Ok((Ok(value),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        }
    };
}

/// The functions of `fields`, which are the same in both worlds.
macro_rules! fields {
    ($it:ident, $types:ident) => {
        $it.func_wrap("[constructor]fields", |mut store: Store<'_>, (): ()| {
            let fields = $types::HostFields::new(&mut store.data_mut().http())?;
            store.data_mut().charge_new(fields.rep(), 0)?;
            Ok((fields,))
        })?;
        $it.func_wrap(
            "[static]fields.from-list",
            |mut store: Store<'_>, (entries,): (Vec<(String, Vec<u8>)>,)| {
                let bytes = entries.iter().map(|(name, value)| size(name, value)).sum();
                let made = $types::HostFields::from_list(&mut store.data_mut().http(), entries);
                if let Ok(fields) = &made {
                    store.data_mut().charge_new(fields.rep(), bytes)?;
                }
                answer!(made)
            },
        )?;
        $it.func_wrap(
            "[method]fields.append",
            |mut store: Store<'_>, (fields, name, value): (Fields, String, Vec<u8>)| {
                store.data_mut().charge(fields.rep(), size(&name, &value))?;
                let http = &mut store.data_mut().http();
                answer!($types::HostFields::append(http, fields, name, value))
            },
        )?;
        $it.func_wrap(
            "[method]fields.set",
            |mut store: Store<'_>, (fields, name, values): (Fields, String, Vec<Vec<u8>>)| {
                let bytes = values.iter().map(|value| size(&name, value)).sum();
                store.data_mut().charge(fields.rep(), bytes)?;
                let http = &mut store.data_mut().http();
                answer!($types::HostFields::set(http, fields, name, values))
            },
        )?;
        $it.func_wrap(
            "[method]fields.clone",
            |mut store: Store<'_>, (fields,): (Fields,)| {
                let clone = $types::HostFields::clone(&mut store.data_mut().http(), fields)?;
                store.data_mut().charge_fields(&clone)?;
                Ok((clone,))
            },
        )?;
    };
}

/// The functions that give texts to a request, under the name that its type has in the world.
macro_rules! setters {
    ($it:ident, $types:ident, $name:literal, $request:ty) => {
        $it.func_wrap(
            concat!("[method]", $name, ".set-method"),
            |mut store: Store<'_>, (request, method): (Resource<$request>, $types::Method)| {
                if let $types::Method::Other(name) = &method {
                    store.data_mut().charge(request.rep(), name.len())?;
                }
                let http = &mut store.data_mut().http();
                Ok(($types::HostRequest::set_method(http, request, method)?,))
            },
        )?;
        $it.func_wrap(
            concat!("[method]", $name, ".set-path-with-query"),
            |mut store: Store<'_>, (request, path): (Resource<$request>, Option<String>)| {
                let bytes = path.as_ref().map_or(0, String::len);
                store.data_mut().charge(request.rep(), bytes)?;
                let http = &mut store.data_mut().http();
                Ok(($types::HostRequest::set_path_with_query(
                    http, request, path,
                )?,))
            },
        )?;
        $it.func_wrap(
            concat!("[method]", $name, ".set-authority"),
            |mut store: Store<'_>, (request, authority): (Resource<$request>, Option<String>)| {
                let bytes = authority.as_ref().map_or(0, String::len);
                store.data_mut().charge(request.rep(), bytes)?;
                let http = &mut store.data_mut().http();
                Ok(($types::HostRequest::set_authority(
                    http, request, authority,
                )?,))
            },
        )?;
    };
}

/// A function that gives the fields of a request or response as a resource of their own. Wasmtime's shares the bytes between the two; the
/// charge is that of a clone, since the fields stay when the other one is dropped.
macro_rules! headers {
    ($it:ident, $name:literal, $headers:path, $of:ty) => {
        $it.func_wrap($name, |mut store: Store<'_>, (of,): (Resource<$of>,)| {
            let headers = $headers(&mut store.data_mut().http(), of)?;
            store.data_mut().charge_fields(&headers)?;
            Ok((headers,))
        })?;
    };
}

/// WASI 0.2's names for what both worlds have.
mod named02 {
    pub(super) use super::types02::{HostFields, HostOutgoingRequest as HostRequest, Method};
}

/// Stands in front of the functions of WASI 0.2.
///
/// # Errors
/// When the interface was not offered before, or has other functions.
pub(super) fn link_02(linker: &mut Linker<Context>) -> Result<()> {
    in_front(linker, TYPES_02, |it| {
        fields!(it, named02);
        setters!(it, named02, "outgoing-request", HostOutgoingRequest);
        headers!(
            it,
            "[method]incoming-request.headers",
            types02::HostIncomingRequest::headers,
            HostIncomingRequest
        );
        headers!(
            it,
            "[method]outgoing-request.headers",
            types02::HostOutgoingRequest::headers,
            HostOutgoingRequest
        );
        headers!(
            it,
            "[method]incoming-response.headers",
            types02::HostIncomingResponse::headers,
            HostIncomingResponse
        );
        headers!(
            it,
            "[method]outgoing-response.headers",
            types02::HostOutgoingResponse::headers,
            HostOutgoingResponse
        );
        it.func_wrap(
            "[method]incoming-response.consume",
            |mut store: Store<'_>, (response,): (Resource<HostIncomingResponse>,)| {
                store.data_mut().charge_head(&response)?;
                let http = &mut store.data_mut().http();
                Ok((types02::HostIncomingResponse::consume(http, response)?,))
            },
        )?;
        it.func_wrap(
            "[method]future-trailers.get",
            |mut store: Store<'_>, (trailers,): (Resource<HostFutureTrailers>,)| {
                let http = &mut store.data_mut().http();
                let arrived = types02::HostFutureTrailers::get(http, trailers)?;
                if let Some(Ok(Ok(Some(fields)))) = &arrived {
                    store.data_mut().charge_fields(fields)?;
                }
                Ok((arrived,))
            },
        )?;
        it.func_wrap(
            "[constructor]outgoing-request",
            |mut store: Store<'_>, (headers,): (Fields,)| {
                let bytes = store.data_mut().take_charge(headers.rep());
                store.data_mut().make_room();
                let http = &mut store.data_mut().http();
                let request = types02::HostOutgoingRequest::new(http, headers)?;
                store.data_mut().charge_new(request.rep(), bytes)?;
                Ok((request,))
            },
        )?;
        it.func_wrap(
            "[constructor]outgoing-response",
            |mut store: Store<'_>, (headers,): (Fields,)| {
                let bytes = store.data_mut().take_charge(headers.rep());
                let http = &mut store.data_mut().http();
                let response = types02::HostOutgoingResponse::new(http, headers)?;
                store.data_mut().charge_new(response.rep(), bytes)?;
                Ok((response,))
            },
        )?;
        it.func_wrap(
            "[method]outgoing-request.body",
            |mut store: Store<'_>, (request,): (Resource<HostOutgoingRequest>,)| {
                store.data_mut().charge(request.rep(), BODY_BYTES)?;
                let http = &mut store.data_mut().http();
                Ok((types02::HostOutgoingRequest::body(http, request)?,))
            },
        )?;
        it.func_wrap(
            "[method]outgoing-response.body",
            |mut store: Store<'_>, (response,): (Resource<HostOutgoingResponse>,)| {
                store.data_mut().charge(response.rep(), BODY_BYTES)?;
                let http = &mut store.data_mut().http();
                Ok((types02::HostOutgoingResponse::body(http, response)?,))
            },
        )?;
        it.func_wrap(
            "[static]outgoing-body.finish",
            |mut store: Store<'_>,
             (body, trailers): (Resource<HostOutgoingBody>, Option<Fields>)| {
                if let Some(trailers) = &trailers {
                    store.data_mut().keep_charge(trailers.rep())?;
                }
                let http = &mut store.data_mut().http();
                answer!(types02::HostOutgoingBody::finish(http, body, trailers))
            },
        )
    })
}

/// Stands in front of the functions of WASI 0.3. Bodies wait in the guest's own memory there.
///
/// # Errors
/// When the interface was not offered before, or has other functions.
pub(super) fn link_03(linker: &mut Linker<Context>) -> Result<()> {
    type Code = types03::ErrorCode;
    type Contents = Option<StreamReader<u8>>;
    type Options = Option<Resource<types03::RequestOptions>>;
    in_front(linker, TYPES_03, |it| {
        fields!(it, types03);
        setters!(it, types03, "request", Request);
        headers!(
            it,
            "[method]request.get-headers",
            types03::HostRequest::get_headers,
            Request
        );
        headers!(
            it,
            "[method]response.get-headers",
            types03::HostResponse::get_headers,
            Response
        );
        it.func_wrap(
            "[static]request.new",
            |mut store: Store<'_>,
             (headers, contents, trailers, options): (
                Fields,
                Contents,
                Trailers<Code>,
                Options,
            )| {
                let bytes = store.data_mut().take_charge(headers.rep());
                store.data_mut().make_room();
                let access = Access::<_, WasiHttp>::new(
                    store.as_context_mut(),
                    <Context as WasiHttpView>::http,
                );
                let (request, sent) = <WasiHttp as types03::HostRequestWithStore<_>>::new(
                    access, headers, contents, trailers, options,
                )?;
                store.data_mut().charge_new(request.rep(), bytes)?;
                Ok(((request, sent),))
            },
        )?;
        it.func_wrap(
            "[static]response.new",
            |mut store: Store<'_>,
             (headers, contents, trailers): (Fields, Contents, Trailers<Code>)| {
                let bytes = store.data_mut().take_charge(headers.rep());
                let access = Access::<_, WasiHttp>::new(
                    store.as_context_mut(),
                    <Context as WasiHttpView>::http,
                );
                let (response, sent): (Resource<Response>, _) =
                    <WasiHttp as types03::HostResponseWithStore<_>>::new(
                        access, headers, contents, trailers,
                    )?;
                store.data_mut().charge_new(response.rep(), bytes)?;
                Ok(((response, sent),))
            },
        )
    })
}

fn in_front(
    linker: &mut Linker<Context>,
    interface: &str,
    define: impl FnOnce(&mut LinkerInstance<'_, Context>) -> Result<()>,
) -> Result<()> {
    linker.allow_shadowing(true);
    let defined = linker
        .instance(interface)
        .and_then(|mut it| define(&mut it));
    linker.allow_shadowing(false);
    defined
}

/// What a set of header fields takes, in bytes.
pub(super) fn fields_size(fields: &HeaderMap) -> usize {
    let sizes = fields
        .iter()
        .map(|(name, value)| size(name.as_str(), value.as_bytes()));
    sizes.sum()
}

/// What a header field takes, in bytes.
fn size(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + FIELD_OVERHEAD_BYTES
}
