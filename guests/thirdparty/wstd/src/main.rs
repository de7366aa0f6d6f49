//! A handler as the crate wstd has it, asynchronous on WASI 0.2: nothing of this project's SDK or WIT, and no session.
//! A POST is answered with its own body, everything else with a hello.

use wstd::http::body::Body;
use wstd::http::{Error, Method, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    if request.method() == Method::POST {
        return Ok(Response::new(request.into_body()));
    }
    Ok(Response::new("hello from wstd\n".to_owned().into()))
}
