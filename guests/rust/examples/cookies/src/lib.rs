//! Preferences in cookies: plain, signed and JSON. None of them touches the session.

use std::time::Duration;

use cloakroom_guest::cookies::{self, Cookie, SameSite};
use cloakroom_guest::{Error, Request, Response, Router, handler};
use serde::{Deserialize, Serialize};

handler!(routes);

/// How long a choice is remembered: a year.
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
    // Anybody may have written this one.
    let theme = cookies::get("theme").unwrap_or_else(|| "light".to_owned());
    // This one only the host can have signed.
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

/// The session's cookie is out of reach: a 500, and a line in the log.
fn evil(_request: Request) -> Result<Response, Error> {
    Ok(Response::new(200).cookie(Cookie::new("connect.sid", "mine"))?)
}
