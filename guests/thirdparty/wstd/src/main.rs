//! An asynchronous handler that uses the crate wstd for WASI 0.2, without this project's SDK and WIT and without a
//! session. Answers a POST with its own body, and every other request with a greeting.

use wstd::http::body::Body;
use wstd::http::{Error, Method, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    if request.method() == Method::POST {
        return Ok(Response::new(request.into_body()));
    }
    Ok(Response::new("hello from wstd\n".to_owned().into()))
}
