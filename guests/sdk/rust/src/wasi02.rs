//! Handlers for WASI 0.2, the world `cloakroom:http/guest`: the macro [`handler!`](crate::handler), and all bindings that
//! `wit-bindgen` generates for the world, for features that the helpers do not cover (streaming, calls to other servers).

#[allow(missing_docs, clippy::all, reason = "generated from the WIT package")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "guest",
        path: "../../wit",
        generate_all,
        with: {
            "cloakroom:http/cookies@0.1.0": crate::bindings::cloakroom::http::cookies,
            "cloakroom:http/session@0.1.0": crate::bindings::cloakroom::http::session,
        },
        pub_export_macro: true,
        export_macro_name: "export_wasi02",
        default_bindings_module: "cloakroom_guest::wasi02::bindings",
    });
}

pub use bindings::exports::wasi::http0_2_10::incoming_handler::Guest;
pub use bindings::wasi::{
    cli0_2_10 as cli, clocks0_2_10 as clocks, http0_2_10 as http, io, random0_2_10 as random,
};

use self::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse,
    ResponseOutparam, http_error_code,
};
use self::io::streams::{OutputStream, StreamError};
use crate::{Handler, IntoResponse, Request, Response};

/// Maximum number of bytes to read at once.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Makes a function the handler of this component: a function from [`Request`] to a type that implements
/// [`IntoResponse`](crate::IntoResponse), or a function without parameters that returns a [`Router`](crate::Router).
///
/// ```
/// cloakroom_guest::handler!(handle);
///
/// fn handle(request: cloakroom_guest::Request) -> cloakroom_guest::Response {
///     cloakroom_guest::Response::text(request.path())
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! handler {
    ($handle:path) => {
        #[doc(hidden)]
        struct CloakroomHandler;

        impl $crate::wasi02::Guest for CloakroomHandler {
            fn handle(
                request: $crate::wasi02::http::types::IncomingRequest,
                response: $crate::wasi02::http::types::ResponseOutparam,
            ) {
                $crate::wasi02::serve(request, response, &$handle);
            }
        }

        $crate::wasi02::bindings::export_wasi02!(CloakroomHandler with_types_in $crate::wasi02::bindings);
    };
}

/// Reads the request, calls the handler and sends its response. The macro [`handler!`](crate::handler) calls this function.
pub fn serve<Kind>(request: IncomingRequest, out: ResponseOutparam, handler: &impl Handler<Kind>) {
    match read_request(&request) {
        Ok(request) => send(out, &handler.answer(request)),
        Err(code) => ResponseOutparam::set(out, Err(code)),
    }
}

/// Reads a whole request.
///
/// # Errors
/// The host's error code if the body ends early or exceeds its limit.
pub fn read_request(request: &IncomingRequest) -> Result<Request, ErrorCode> {
    let body = request
        .consume()
        .map_err(|()| ErrorCode::InternalError(None))?;
    let body = read_to_end(&body)?;
    Ok(Request::new(
        method_name(request.method()),
        request.path_with_query(),
        request.headers().entries(),
        body,
    ))
}

/// Sends a value that a handler can return; see [`send`].
pub fn answer(out: ResponseOutparam, value: impl IntoResponse) {
    send(out, &value.into_response());
}

/// Sends a response. If the host refuses a header, the reason is written to standard error and the visitor receives an error.
pub fn send(out: ResponseOutparam, response: &Response) {
    let Some(mut body) = BodyWriter::start(out, response, Length::Known) else {
        return;
    };
    if body.write(&response.body).is_ok() {
        body.finish();
    }
}

/// Whether the length of a response's body is known when its head is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The length is that of [`Response::body`], and `content-length` is sent.
    Known,
    /// The length is not known. The body is written piece by piece until [`BodyWriter::finish`].
    Open,
}

/// A response's body, to be written piece by piece after its head.
///
/// If it is dropped without [`finish`](Self::finish), the body counts as incomplete and the host closes the connection.
#[derive(Debug)]
pub struct BodyWriter {
    // Declared before the body, because a stream must be dropped before its body.
    stream: OutputStream,
    body: OutgoingBody,
}

impl BodyWriter {
    /// Sends the status and the headers of a response, but not its body. Returns `None` if the host refuses one of
    /// them: the visitor then receives an error, and the refused part is written to standard error.
    pub fn start(out: ResponseOutparam, response: &Response, length: Length) -> Option<Self> {
        let started = head(response, length).and_then(|outgoing| {
            let body = outgoing
                .body()
                .map_err(|()| ErrorCode::InternalError(None))?;
            let stream = body.write().map_err(|()| ErrorCode::InternalError(None))?;
            Ok((outgoing, Self { stream, body }))
        });
        match started {
            Ok((outgoing, writer)) => {
                ResponseOutparam::set(out, Ok(outgoing));
                Some(writer)
            }
            Err(code) => {
                ResponseOutparam::set(out, Err(code));
                None
            }
        }
    }

    /// Writes all bytes and waits until the host has accepted them.
    ///
    /// # Errors
    /// If the host has closed the stream because the visitor has disconnected.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        write_all(&self.stream, bytes)
    }

    /// Ends the body.
    pub fn finish(self) {
        let Self { stream, body } = self;
        drop(stream);
        // This fails only if the announced length was wrong. The host logs it.
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Writes all bytes and waits until the host has accepted them.
pub(crate) fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let ready = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if ready == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(ready.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    stream.blocking_flush()
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

/// Reads a request's body to its end.
fn read_to_end(body: &IncomingBody) -> Result<Vec<u8>, ErrorCode> {
    let stream = body.stream().map_err(|()| ErrorCode::InternalError(None))?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES_MAX) {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                let code = http_error_code(&error);
                return Err(code.unwrap_or(ErrorCode::HttpRequestBodySize(None)));
            }
        }
    }
}

/// Creates the outgoing response: status and headers.
fn head(response: &Response, length: Length) -> Result<OutgoingResponse, ErrorCode> {
    let headers = match length {
        Length::Known => Fields::from_list(&response.headers_with_length()),
        Length::Open => Fields::from_list(&response.headers),
    };
    let headers = headers.map_err(|error| {
        eprintln!("a response header was refused: {error}");
        ErrorCode::InternalError(None)
    })?;
    let outgoing = OutgoingResponse::new(headers);
    outgoing.set_status_code(response.status).map_err(|()| {
        eprintln!("the status {} was refused", response.status);
        ErrorCode::InternalError(None)
    })?;
    Ok(outgoing)
}
