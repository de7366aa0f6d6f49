//! Preferences in cookies: plain, signed and JSON. None of them touches the session.

use std::time::Duration;

use cloakroom_guest::cookies::{self, Cookie, SameSite};
use cloakroom_guest::{Error, Request, Response, Router, handler};
use serde::{Deserialize, Serialize};

handler!(routes);

/// Lifetime of a preference: a year.
const REMEMBERED: Duration = Duration::from_secs(365 * 86_400);

#[derive(Serialize, Deserialize)]
struct Layout {
    columns: u8,
}

fn routes() -> Router {
    Router::new()
        .get("/", show)
        .post("/theme/{theme}", choose_theme)
        .post("/plan/{plan}", choose_plan)
        .post("/columns/{columns}", choose_columns)
        .post("/forget", forget)
        .post("/evil", evil)
}

fn show(_request: Request) -> Result<String, Error> {
    // Every visitor can write any value into this cookie.
    let theme = cookies::get("theme").unwrap_or_else(|| "light".to_owned());
    // Only the host can have signed this cookie.
    let plan = cookies::signed("plan").unwrap_or_else(|| "free".to_owned());
    let columns = cookies::get_json::<Layout>("layout")?.map_or(1, |layout| layout.columns);
    Ok(format!("{theme}, {plan}, {columns}\n"))
}

fn choose_theme(request: Request) -> Result<Response, Error> {
    let theme = Cookie::new("theme", request.param::<String>("theme")?);
    Ok(Response::see_other("/").cookie(theme.max_age(REMEMBERED))?)
}

fn choose_plan(request: Request) -> Result<Response, Error> {
    let plan = Cookie::new("plan", request.param::<String>("plan")?)
        .signed()
        .http_only()
        .same_site(SameSite::Lax)
        .max_age(REMEMBERED);
    Ok(Response::see_other("/").cookie(plan)?)
}

fn choose_columns(request: Request) -> Result<Response, Error> {
    let columns = request.param("columns")?;
    Ok(Response::see_other("/").cookie(Cookie::json("layout", &Layout { columns })?)?)
}

fn forget(_request: Request) -> Result<Response, Error> {
    let answer = Response::see_other("/").cookie(Cookie::clear("theme"))?;
    Ok(answer
        .cookie(Cookie::clear("plan"))?
        .cookie(Cookie::clear("layout"))?)
}

/// A guest cannot set the session's cookie: the visitor receives a 500, and the error is logged.
fn evil(_request: Request) -> Result<Response, Error> {
    Ok(Response::new(200).cookie(Cookie::new("connect.sid", "mine"))?)
}
