//! The two routes of the counter. Knows neither where it is mounted nor which version of WASI it runs on.

use cloakroom_guest::{Error, Request, Response, session};

/// Counts a visit; below `/delete` it ends the session instead.
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
