//! A handler that counts the visits of each visitor in the session.

use cloakroom_guest::{Error, Request, Response, Router, handler, session};

handler!(routes);

fn routes() -> Router {
    Router::new()
        .get("/session", count)
        .get("/session/delete", delete)
        .get("/", home)
}

/// Counts a visit.
fn count(_request: Request) -> Result<String, Error> {
    let num = session::get::<u64>("num")?.unwrap_or(0) + 1;
    session::set("num", &num)?;
    Ok(format!("{num}번 접속"))
}

/// Deletes the session.
fn delete(_request: Request) -> Result<Response, Error> {
    session::destroy()?;
    Ok(Response::redirect("/session"))
}

/// Redirects to the counter.
fn home(_request: Request) -> Response {
    Response::redirect("/session")
}
