//! Requirements of `host/docs/src/security-requirements.md` that are not tested with another subject. Each test names the number of its
//! requirement.

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

/// Returns a client without a cookie jar, which sends exactly the test's fields.
fn bare_client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without TLS always builds")
}

/// Returns the answer to a request with exactly these header fields.
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
