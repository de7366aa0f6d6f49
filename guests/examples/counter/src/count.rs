//! The two routes of the counter. Independent of the path where it is mounted and of the WASI version.

use cloakroom_guest::{Error, Request, Response, session};

/// Counts a visit. A path that ends in `/delete` destroys the session instead.
pub fn handle(request: Request) -> Result<Response, Error> {
    if !matches!(request.method(), "GET" | "HEAD") {
        return Ok(Response::new(405).header("allow", "GET, HEAD"));
    }
    if request.path().ends_with("/delete") {
        session::destroy()?;
        return Ok(Response::redirect("/session"));
    }
    let count = session::get::<u64>("num")?.unwrap_or(0) + 1;
    session::set("num", &count)?;
    Ok(Response::text(format!("{count}번 접속")))
}
