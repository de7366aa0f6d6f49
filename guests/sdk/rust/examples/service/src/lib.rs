//! Asynchronous handlers on WASI 0.3.

use cloakroom_guest::wasi03::clocks::monotonic_clock;
use cloakroom_guest::{AsyncRouter, Error, Request, Router, service, session};

service!(async routes);

fn routes() -> AsyncRouter {
    Router::new_async()
        .get("/", count)
        .get("/later/{milliseconds}", later)
}

async fn count(_request: Request) -> Result<String, Error> {
    Ok(format!("{}번 접속", session::increment("num", 1)?))
}

/// Waits without blocking: the host serves other requests meanwhile.
async fn later(request: Request) -> Result<String, Error> {
    let milliseconds: u64 = request.param("milliseconds")?;
    monotonic_clock::wait_for(milliseconds * 1_000_000).await;
    Ok(format!("{milliseconds} ms later\n"))
}
