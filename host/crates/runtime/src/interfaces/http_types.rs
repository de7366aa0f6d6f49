//! The functions of `wasi:http/types` that make the host keep bytes for a guest. Each function shadows wasmtime's own in the linker. It
//! charges the bytes to the instance's memory limit and then calls wasmtime's function.
//!
//! | kept bytes | charge |
//! | --- | --- |
//! | header fields | as they grow; a clone, and the fields of a request or response, are charged as a whole |
//! | a request or response that the guest creates | its fields, method, target and authority, and the waiting pieces of its body |
//! | a response from another server | its head: with its body at first, with its own resource once the body was taken out |
//! | trailers | until the end of the guest's request; trailers that arrive, with their resource (WASI 0.2) |
//!
//! In WASI 0.3, incoming trailers come through a future, which has no function here. There is only one set for each incoming body.
//!
//! A function that shares bytes between two resources charges both, because the guest may drop either first. The head of a
//! response from another server counts from its arrival, whether or not the guest asks for it (`outbound/exchange`).

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

use super::fields::size;
use super::outbound::BODY_CHUNK_BYTES_MAX;
use crate::engine::GuestWorld;
use crate::interfaces::context::GuestContext;

/// The interface's name in wasmtime's bindings, for each world.
const TYPES_02: &str = "wasi:http/types@0.2.12";
const TYPES_03: &str = "wasi:http/types@0.3.0";

/// Bytes that the body of a request or response takes: two waiting pieces, and their queue.
const BODY_BYTES: usize = 2 * BODY_CHUNK_BYTES_MAX + (4 << 10);

type Store<'a> = StoreContextMut<'a, GuestContext>;
type Fields = Resource<FieldMap>;
type Trailers<E> = FutureReader<std::result::Result<Option<Fields>, E>>;

/// Returns a result of the interface, or a trap.
macro_rules! answer {
    ($result:expr) => {
        match $result {
            Ok(value) => Ok((Ok(value),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        }
    };
}

/// Defines the functions of `fields`, which are the same in both worlds.
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

/// Defines the functions that set texts of a request, under the name that its type has in the world.
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

/// Defines a function that returns the fields of a request or response as a separate resource. Wasmtime shares the bytes between the two.
/// The charge is that of a clone, because the fields remain when the request or response is dropped.
macro_rules! headers {
    ($it:ident, $name:literal, $headers:path, $of:ty) => {
        $it.func_wrap($name, |mut store: Store<'_>, (of,): (Resource<$of>,)| {
            let headers = $headers(&mut store.data_mut().http(), of)?;
            store.data_mut().charge_fields(&headers)?;
            Ok((headers,))
        })?;
    };
}

/// WASI 0.2's names for types that both worlds have.
mod named02 {
    pub(crate) use super::types02::{HostFields, HostOutgoingRequest as HostRequest, Method};
}

/// Adds `wasi:http` to the linker of a world: the types, and the interface that sends requests.
///
/// # Errors
/// Fails if the interfaces were added before.
pub(crate) fn link(linker: &mut Linker<GuestContext>, world: GuestWorld) -> Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    if world == GuestWorld::Wasi03 {
        wasmtime_wasi_http::p3::add_to_linker(linker)?;
        link_03(linker)?;
    }
    link_02(linker)
}

/// Shadows the functions of WASI 0.2.
///
/// # Errors
/// Fails if the interface was not added to the linker before, or has other functions.
fn link_02(linker: &mut Linker<GuestContext>) -> Result<()> {
    override_functions(linker, TYPES_02, |it| {
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
        bodies_02(it)
    })
}

fn bodies_02(it: &mut LinkerInstance<'_, GuestContext>) -> Result<()> {
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
        |mut store: Store<'_>, (body, trailers): (Resource<HostOutgoingBody>, Option<Fields>)| {
            if let Some(trailers) = &trailers {
                store.data_mut().keep_charge(trailers.rep())?;
            }
            let http = &mut store.data_mut().http();
            answer!(types02::HostOutgoingBody::finish(http, body, trailers))
        },
    )
}

/// Shadows the functions of WASI 0.3, in which waiting pieces of a body are in the guest's own memory.
///
/// # Errors
/// Fails if the interface was not added to the linker before, or has other functions.
fn link_03(linker: &mut Linker<GuestContext>) -> Result<()> {
    type Code = types03::ErrorCode;
    type Contents = Option<StreamReader<u8>>;
    type Options = Option<Resource<types03::RequestOptions>>;
    override_functions(linker, TYPES_03, |it| {
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
                    <GuestContext as WasiHttpView>::http,
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
                    <GuestContext as WasiHttpView>::http,
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

fn override_functions(
    linker: &mut Linker<GuestContext>,
    interface: &str,
    define: impl FnOnce(&mut LinkerInstance<'_, GuestContext>) -> Result<()>,
) -> Result<()> {
    linker.allow_shadowing(true);
    let defined = linker
        .instance(interface)
        .and_then(|mut it| define(&mut it));
    linker.allow_shadowing(false);
    defined
}
