//! Handlers for WASI 0.3, the world `cloakroom:http/service`: the macro [`service!`](crate::service), and all bindings
//! that `wit-bindgen` generates for the world, for features that the helpers do not cover.

#[allow(missing_docs, clippy::all, reason = "generated from the WIT package")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "service",
        path: "../../wit",
        generate_all,
        with: {
            "cloakroom:http/cookies@0.1.0": crate::bindings::cloakroom::http::cookies,
            "cloakroom:http/session@0.1.0": crate::bindings::cloakroom::http::session,
        },
        pub_export_macro: true,
        export_macro_name: "export_wasi03",
        default_bindings_module: "cloakroom_guest::wasi03::bindings",
    });
}

pub use bindings::exports::wasi::http0_3_0::handler::Guest;
pub use bindings::wasi::{
    cli0_3_0 as cli, clocks0_3_0 as clocks, http0_3_0 as http, random0_3_0 as random,
};
pub use bindings::{wit_future, wit_stream};
pub use wit_bindgen::{StreamResult, StreamWriter, spawn_local};

use self::http::types::{self, ErrorCode, Fields, Method};
use crate::{Request, Response};

/// Makes a function the handler of this component: a function from [`Request`] to a type that implements
/// [`IntoResponse`](crate::IntoResponse), or a function without parameters that returns a [`Router`](crate::Router).
/// With `async` before its name, the function is an `async fn`, or it returns a router made with
/// [`Router::new_async`](crate::Router::new_async).
///
/// ```
/// use cloakroom_guest::wasi03::clocks::monotonic_clock;
/// use cloakroom_guest::{Request, Response};
///
/// cloakroom_guest::service!(async handle);
///
/// async fn handle(_request: Request) -> Response {
///     monotonic_clock::wait_for(1_000_000).await;
///     Response::text("a millisecond later")
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! service {
    (@export $request:ident $answer:expr) => {
        #[doc(hidden)]
        struct CloakroomService;

        impl $crate::wasi03::Guest for CloakroomService {
            async fn handle(
                request: $crate::wasi03::http::types::Request,
            ) -> Result<$crate::wasi03::http::types::Response, $crate::wasi03::http::types::ErrorCode> {
                let $request = $crate::wasi03::read_request(request).await?;
                $crate::wasi03::response($answer)
            }
        }

        $crate::wasi03::bindings::export_wasi03!(CloakroomService with_types_in $crate::wasi03::bindings);
    };
    (async $handle:path) => {
        $crate::service!(@export request $crate::AsyncHandler::answer(&$handle, request).await);
    };
    ($handle:path) => {
        $crate::service!(@export request $crate::Handler::answer(&$handle, request));
    };
}

/// Reads a whole request.
///
/// # Errors
/// The host's error code if the body ends early or exceeds its limit.
pub async fn read_request(request: types::Request) -> Result<Request, ErrorCode> {
    let method = method_name(request.get_method());
    let path_with_query = request.get_path_with_query();
    let headers = request.get_headers().copy_all();
    let (sender, received) = wit_future::new(|| Ok(()));
    let (body, trailers) = types::Request::consume_body(request, received);
    let body = body.collect().await;
    // The trailers' future ends with an error if the body did not end properly.
    trailers.await?;
    drop(sender);
    Ok(Request::new(method, path_with_query, headers, body))
}

/// Creates a response whose body is sent after the handler has returned.
///
/// # Errors
/// `internal-error` if the host refuses a header or the status. The refused part is written to standard error.
pub fn response(mut response: Response) -> Result<types::Response, ErrorCode> {
    response.headers = response.headers_with_length();
    let (outgoing, mut writer) = stream(&response)?;
    spawn_local(async move {
        // Bytes are left over only if the visitor has disconnected.
        let _left = writer.write_all(response.body).await;
    });
    Ok(outgoing)
}

/// Creates a response with the status and the headers of `response`, and the stream for its body. Write to the stream in a task
/// of [`spawn_local`], because the host reads only after the handler has returned. The body ends when the stream is dropped.
///
/// # Errors
/// As [`response`].
pub fn stream(response: &Response) -> Result<(types::Response, StreamWriter<u8>), ErrorCode> {
    let headers = Fields::from_list(&response.headers).map_err(|error| {
        eprintln!("a response header was refused: {error}");
        ErrorCode::InternalError(None)
    })?;
    let (writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (outgoing, _sent) = types::Response::new(headers, Some(reader), trailers);
    outgoing.set_status_code(response.status).map_err(|()| {
        eprintln!("the status {} was refused", response.status);
        ErrorCode::InternalError(None)
    })?;
    Ok((outgoing, writer))
}

/// Returns the name of the method as it was sent.
pub fn method_name(method: Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    }
    .to_owned()
}
