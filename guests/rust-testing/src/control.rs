//! One host, as the control interface of `cloakroom test` offers it. Knows no visitors.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{Agent, http};

/// Where the control interface listens.
const URL_VARIABLE: &str = "CLOAKROOM_TEST_URL";

/// How long a host may be silent: it may have to start on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A started host; dropping it ends the host.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) agent: Agent,
    /// Of the host's part of the control interface.
    base: String,
    /// Of the host itself.
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

    /// Sends a command whose answer is not looked at.
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
        // It may have ended already; a test that fails has said more about why.
        let _ = self.agent.delete(&self.base).call();
    }
}

/// A client that hands back every status, follows nothing and uses no proxy.
fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(WAIT_MAX))
        // PUT and DELETE with a body, and GET without: as the test says.
        .allow_non_standard_methods(true)
        .build();
    config.into()
}

/// The answer's text.
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
