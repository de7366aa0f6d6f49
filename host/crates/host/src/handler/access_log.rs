//! The access log, with one line per request, and the request's metrics. A line contains the route's pattern but never the path
//! or the query, because both may contain private data.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode, Version};

use cloakroom_base::limits::REQUEST_METHOD_BYTES_MAX;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::ACCESS_TARGET;
use cloakroom_base::telemetry::metrics::VersionMetrics;

/// The logged properties of a request. They are logged once: by [`AccessRecord::log`], or when the record is dropped unlogged.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    pub(crate) request_id: Arc<str>,
    pub(crate) started_at: Instant,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) peer: SocketAddr,
    pub(crate) client: IpAddr,
    /// The route's pattern.
    pub(crate) route: Option<String>,
    pub(crate) guest: Option<String>,
    /// The version of the guest, or 0 before the request has one.
    pub(crate) guest_version: u64,
    /// The number of runs of the guest.
    pub(crate) attempts: u32,
    /// The metrics that count the request: those of the guest's version once the request has one.
    pub(crate) metrics: Option<Arc<VersionMetrics>>,
    is_logged: bool,
}

impl AccessRecord {
    pub(crate) fn new(
        request_id: Arc<str>,
        method: Method,
        version: Version,
        peer: SocketAddr,
    ) -> Self {
        Self {
            request_id,
            started_at: Instant::now(),
            method,
            version,
            peer,
            client: peer.ip().to_canonical(),
            route: None,
            guest: None,
            guest_version: 0,
            attempts: 0,
            metrics: None,
            is_logged: false,
        }
    }

    /// Logs the request. `bytes` is the body's length, if it is known when the head is sent. `error` is the kind of a
    /// [`super::error::Problem`].
    pub(crate) fn log(
        mut self,
        status: StatusCode,
        bytes: Option<u64>,
        error: Option<&'static str>,
    ) {
        self.emit(status, bytes, error);
    }

    fn emit(&mut self, status: StatusCode, bytes: Option<u64>, error: Option<&'static str>) {
        self.is_logged = true;
        let took = self.started_at.elapsed();
        if let Some(metrics) = &self.metrics {
            metrics.answered(status.as_u16(), took);
        }
        let duration_ms = took.as_secs_f64() * 1000.0;
        let (method, is_whole) = telemetry::cut(self.method.as_str(), REQUEST_METHOD_BYTES_MAX);
        let mark = if is_whole { "" } else { "[cut]" };
        // A field with `None` is left out.
        tracing::info!(
            target: ACCESS_TARGET,
            method = %format_args!("{method}{mark}"),
            route = self.route.as_deref(),
            version = ?self.version,
            status = status.as_u16(),
            error,
            guest = self.guest.as_deref(),
            guest_version = (self.guest_version > 0).then_some(self.guest_version),
            attempts = self.attempts,
            duration_ms = (duration_ms * 1000.0).round() / 1000.0,
            bytes,
            request_id = %self.request_id,
            peer = %self.peer,
            client = (self.client != self.peer.ip().to_canonical()).then(|| tracing::field::display(self.client)),
            "request",
        );
    }
}

/// A request whose task panicked is logged, too.
impl Drop for AccessRecord {
    fn drop(&mut self) {
        if !self.is_logged {
            self.emit(StatusCode::INTERNAL_SERVER_ERROR, None, Some("panic"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_base::telemetry::CapturedOutput;

    fn lines_of(run: impl FnOnce(AccessRecord)) -> String {
        let (lines, _guard) = CapturedOutput::json_of_this_thread();
        run(AccessRecord::new(
            "r1".into(),
            Method::GET,
            Version::HTTP_11,
            "10.0.0.9:4000".parse().unwrap(),
        ));
        lines.text()
    }

    #[test]
    fn a_request_is_one_line() {
        let lines = lines_of(|mut record| {
            record.route = Some("/session/{*rest}".to_owned());
            record.guest = Some("counter".to_owned());
            record.attempts = 2;
            record.client = "203.0.113.9".parse().unwrap();
            record.log(StatusCode::OK, Some(12), None);
        });
        let line: serde_json::Value = serde_json::from_str(&lines).expect("exactly one line");
        assert_eq!(line["target"], "cloakroom::access");
        assert_eq!(line["status"], 200);
        assert_eq!(line["route"], "/session/{*rest}");
        assert_eq!(
            (&line["guest"], &line["attempts"], &line["bytes"]),
            (&"counter".into(), &2.into(), &12.into())
        );
        assert_eq!(
            (&line["peer"], &line["client"]),
            (&"10.0.0.9:4000".into(), &"203.0.113.9".into())
        );
        assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms >= 0.0));
        assert!(line.get("error").is_none());
    }

    #[test]
    fn a_long_method_is_cut_with_a_mark() {
        let lines = lines_of(|mut record| {
            record.method = Method::from_bytes(&b"M".repeat(10_000)).unwrap();
            record.log(StatusCode::NOT_IMPLEMENTED, None, None);
        });
        assert!(
            lines.contains(&format!("\"{}[cut]\"", "M".repeat(32))),
            "{lines}"
        );
    }

    #[test]
    fn a_request_whose_task_panicked_is_one_line_too() {
        let lines = lines_of(drop);
        let line: serde_json::Value = serde_json::from_str(&lines).expect("exactly one line");
        assert_eq!(
            (&line["status"], &line["error"]),
            (&500.into(), &"panic".into())
        );
    }
}
