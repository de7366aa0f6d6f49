//! The part of the control interface of `cloakroom test` for one host. This module does not know visitors.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{Agent, http};

/// The variable with the URL of the control interface.
const URL_VARIABLE: &str = "CLOAKROOM_TEST_URL";

/// Longest wait for an answer: a host may have to start on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A started host. Dropping it ends the host.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) agent: Agent,
    /// The URL of this host in the control interface.
    base: String,
    /// The URL of the host itself.
    pub(crate) url: String,
}

impl Control {
    pub(crate) fn start() -> Self {
        #[derive(Deserialize)]
        struct Started {
            host: u64,
            url: String,
        }
        let Ok(server) = std::env::var(URL_VARIABLE) else {
            panic!("run these tests with `cloakroom test`");
        };
        let server = server.trim_end_matches('/');
        let agent = agent();
        let hosts = format!("{server}/hosts");
        let started = exchange(&agent, "POST", &hosts, &Value::Null);
        let Started { host, url } = parsed(&hosts, &started);
        Self {
            agent,
            base: format!("{hosts}/{host}"),
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// Sends a command and ignores the content of its answer.
    pub(crate) fn tell(&self, method: &str, path: &str, body: &Value) {
        exchange(&self.agent, method, &self.at(path), body);
    }

    /// Sends a command and reads its answer.
    pub(crate) fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &Value) -> T {
        let url = self.at(path);
        parsed(&url, &exchange(&self.agent, method, &url, body))
    }

    pub(crate) fn now_ms(&self) -> i64 {
        #[derive(Deserialize)]
        struct Clock {
            now_ms: i64,
        }
        let clock: Clock = self.ask("GET", "/clock", &Value::Null);
        clock.now_ms
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The host may already have ended. A failed test has then reported the reason.
        let _ = self.agent.delete(&self.base).call();
    }
}

/// Returns a client that reports every status, follows no redirects and uses no proxy.
fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(WAIT_MAX))
        // PUT and DELETE with a body, and GET without one, as the test requires.
        .allow_non_standard_methods(true)
        .build();
    config.into()
}

/// Sends a request and returns the text of its answer.
fn exchange(agent: &Agent, method: &str, url: &str, body: &Value) -> String {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let request = http::Request::builder().method(method).uri(url);
    let request = match body.is_empty() {
        true => request,
        false => request.header("content-type", "application/json"),
    };
    let request = request.body(body).expect("a method and a URL");
    let answer = agent.run(request);
    let mut answer = answer.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    let text = answer.body_mut().read_to_string();
    let text = text.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    if !answer.status().is_success() {
        let why = serde_json::from_str::<Value>(&text).ok();
        let why = why.and_then(|why| Some(why.get("error")?.as_str()?.to_owned()));
        let why = why.unwrap_or(text);
        panic!("{method} {url}: {}: {why}", answer.status());
    }
    text
}

fn parsed<T: DeserializeOwned>(url: &str, text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{url}: {error} in `{text}`"))
}
