//! Requirements of `host/docs/src/security-requirements.md` that no other subject's file holds: each test names its number.

mod answers;
mod caching;
mod clocks;
mod cookies;
mod effects;
mod ids;
mod injection;
mod rotation;
mod secrets;

use cloakroom_tests::browser::Answer;
use cloakroom_tests::host::Host;
use reqwest::{Client, Method};

/// A client without a jar: what it sends is what the test says.
fn bare_client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without TLS always builds")
}

/// The answer to a request with exactly these header fields.
async fn ask(
    host: &Host,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = bare_client().request(method, host.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.body(body.to_owned()).send().await;
    let response = response.expect("an answer");
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.expect("a whole answer"),
    }
}
