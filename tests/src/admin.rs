//! The operator of a host under test, a client of its admin interface.

use std::time::Duration;

use anyhow::ensure;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::browser::Answer;
use crate::host::Host;
use crate::wait::wait_until;

/// Longest wait for the effect of a call.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of loads of sessions.
const LOADS: &str = "cloakroom_store_duration_seconds_count{call=\"load\"}";

/// A client of a host's admin interface.
#[derive(Clone, Debug)]
pub struct Operator {
    client: Client,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Operator {
    /// Returns the operator of this host.
    pub fn of(host: &Host) -> Self {
        let client = Client::builder().no_proxy().build();
        Self {
            client: client.expect("a client without TLS always builds"),
            url: host.admin(),
        }
    }

    /// Sends a request with header fields and reads the whole answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a whole answer");
        Answer {
            status,
            headers,
            text,
        }
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Uploads a component as a new version of a guest.
    pub async fn put(&self, guest: &str, component: Vec<u8>) -> Answer {
        let path = format!("/guests/{guest}");
        self.send(Method::PUT, &path, &[], component).await
    }

    /// Rolls a guest back to its previous version.
    pub async fn roll_back(&self, guest: &str) -> Answer {
        let path = format!("/guests/{guest}/rollback");
        self.send(Method::POST, &path, &[], "").await
    }

    /// Returns what the admin interface reports about a guest.
    pub async fn guest(&self, name: &str) -> Value {
        json(&self.get(&format!("/guests/{name}")).await)
    }

    /// Returns a metric's value; `series` is its name and labels as they are written.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text;
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let (_, value) = lines.find(|(name, _)| *name == series)?;
        Some(value.parse().expect("a metric is a number"))
    }

    /// Waits until this many instances of a guest's live version are in use.
    ///
    /// # Panics
    /// If the number of instances differs for too long.
    pub async fn wait_for_instances(&self, guest: &str, count: usize) {
        let series = format!("cloakroom_guest_instances{{guest=\"{guest}\"}}");
        self.wait_for_metric(&series, Some(count as f64)).await;
    }

    /// Returns how many loads of sessions the store has answered.
    pub async fn loads(&self) -> u64 {
        // No metric of this name is there before the first one.
        self.metric(LOADS).await.unwrap_or_default() as u64
    }

    /// Waits until the store has answered this many loads of sessions. The host loads a session once for each visit: at the start, or some
    /// milliseconds later where it starts with a snapshot. So a guest that sleeps has its session by then.
    ///
    /// # Panics
    /// If the store does not answer so many in time.
    pub async fn wait_for_loads(&self, count: u64) {
        let what = format!("the store has answered {count} loads");
        wait_until(&what, PATIENCE, async || {
            let loads = self.loads().await;
            ensure!(loads >= count, "{loads}");
            Ok(())
        })
        .await;
    }

    /// Waits until a metric has this value, or for `None` until it is gone.
    ///
    /// # Panics
    /// If the metric does not have this value in time.
    pub async fn wait_for_metric(&self, series: &str, expected: Option<f64>) {
        let what = format!("{series} is {expected:?}");
        wait_until(&what, PATIENCE, async || {
            let value = self.metric(series).await;
            ensure!(value == expected, "{value:?}");
            Ok(())
        })
        .await;
    }
}

/// Parses an answer's body as JSON.
///
/// # Panics
/// If the body is not JSON.
pub fn json(answer: &Answer) -> Value {
    let read = serde_json::from_str(&answer.text);
    read.unwrap_or_else(|error| panic!("{error}: {}", answer.text))
}
