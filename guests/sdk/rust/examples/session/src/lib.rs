//! Login and logout with the functions of the session.

use std::time::Duration;

use cloakroom_guest::session::{self, Key};
use cloakroom_guest::{Error, Request, Response, Router, handler};

handler!(routes);

/// Name of the user, if a user is logged in.
const USER: Key<String> = Key::new("user");

/// "Remember me" lasts 30 days.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

fn routes() -> Router {
    Router::new()
        .get("/", front)
        .post("/login/{user}", login)
        .post("/logout", logout)
        .get("/entries", entries)
}

/// Counts the visit. `add` does not return the sum, so parallel visits never wait for each other.
fn front(_request: Request) -> Result<String, Error> {
    session::add("visits", 1)?;
    Ok(match USER.get()? {
        Some(user) => format!("hello, {user}\n"),
        None => "hello, stranger\n".to_owned(),
    })
}

/// Gives the session a new id, so that an id which an attacker planted before the login is worthless after it.
fn login(request: Request) -> Result<Response, Error> {
    let user: String = request.param("user")?;
    session::renew()?;
    USER.set(&user)?;
    if request.query() == Some("remember") {
        session::set_max_age(Some(REMEMBERED))?;
    }
    Ok(Response::see_other("/"))
}

fn logout(_request: Request) -> Result<Response, Error> {
    session::destroy()?;
    Ok(Response::see_other("/"))
}

/// Returns the keys of the session and its lifetime.
fn entries(_request: Request) -> Result<String, Error> {
    let lifetime = match session::cookie()?.original_max_age {
        Some(milliseconds) => format!("{} s", milliseconds / 1000),
        None => "until the browser is closed".to_owned(),
    };
    let keys = session::list_keys()?.join(", ");
    Ok(format!("{keys}; {lifetime}\n"))
}
