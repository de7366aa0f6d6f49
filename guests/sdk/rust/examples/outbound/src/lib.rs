//! Calls another server, which the configuration must grant:
//!
//! ```toml
//! [guest.rates]
//! component = "example-outbound.wasm"
//! session = "write"
//! outbound_hosts = ["rates.example"]
//! environment = { RATES_URL = "https://rates.example" }
//! ```

use std::time::Duration;

use cloakroom_guest::{Error, Json, Request, Router, client, handler, session};
use serde::{Deserialize, Serialize};

handler!(routes);

#[derive(Serialize, Deserialize)]
struct Rate {
    krw: f64,
}

fn routes() -> Router {
    Router::new()
        .get("/rates/{currency}", rate)
        .post("/rates/{currency}", report)
}

/// Calls the server before it reads the session. The host does not run a handler again after an outbound call, so a
/// conflict over an entry that was read before the call would be answered with 409.
fn rate(request: Request) -> Result<Json<Rate>, Error> {
    let currency: String = request.param("currency")?;
    let url = format!("{}/{currency}", base_url()?);
    let rate = client::Request::new("GET", &url)
        .header("accept", "application/json")
        .timeout(Duration::from_secs(2))
        .send()?
        .success()?
        .json()?;
    session::add("asked", 1)?;
    Ok(Json(rate))
}

/// Sends a value to the server and returns the server's response.
fn report(request: Request) -> Result<String, Error> {
    let currency: String = request.param("currency")?;
    let rate: Rate = request.json()?;
    let url = format!("{}/{currency}", base_url()?);
    let answer = client::post(&url).json(&rate)?.send()?;
    match answer.status() {
        201 => Ok(answer.text()?),
        status => Err(Error::new(502, "the rate was not taken").caused_by(status)),
    }
}

fn base_url() -> Result<String, Error> {
    std::env::var("RATES_URL")
        .map_err(|_| Error::internal("RATES_URL is not in this guest's environment"))
}
