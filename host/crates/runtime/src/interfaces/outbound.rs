//! Outgoing HTTP requests of a guest. They are denied except to granted hosts. A request counts as an effect, after
//! which the guest's own request is never run again. This module does not depend on sessions.
//!
//! `grant` checks a URL against the grants. `resolve` and `address` check the addresses of its host. `connect` opens a
//! `connection`, with `tls` if the URL asks for it. `pool` limits connections and keeps idle ones, and `exchange` sends a request
//! and reads its response.

mod address;
mod connect;
mod connection;
mod exchange;
mod grant;
mod pool;
mod resolve;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

pub use address::NonPublicKind;
pub use grant::{BadHost, OutboundHost};
pub use pool::OutboundUsage;
pub(crate) use pool::{GuestPool, GuestPools, OutboundPool};
pub use resolve::private_today;

use super::accounting::RequestAccounting;
use super::denials::GrantDenial;
use super::{GrantSummary, GrantValue, GuestGrants};
use crate::engine::memory_tally::MemoryTally;
use cloakroom_base::limits::OUTBOUND_WAIT_MAX;
use connect::OutboundConnectError;
use exchange::{ExchangeError, ExchangeTimeouts, exchange};
use grant::{Destination, DestinationRefusal};

/// The names in a component's imports of the interfaces that send requests, in WASI 0.2 and 0.3.
pub(crate) const NAMES: [&str; 2] = ["wasi:http/outgoing-handler", "wasi:http/client"];

/// The names of their grants in metrics and logs.
pub(crate) const GRANTS: [&str; 1] = ["outbound"];

/// Largest piece that a guest may write to a body at once, in bytes. At most two pieces are buffered. So this also
/// limits how far a guest can run ahead of the release of its response (at 64 KiB) before it must yield to the host.
pub(crate) const BODY_CHUNK_BYTES_MAX: usize = 16 << 10;

/// The outgoing HTTP of one instance.
pub(crate) struct OutboundClient {
    pub(crate) hosts: Arc<[OutboundHost]>,
    pub(crate) accounting: RequestAccounting,
    /// The tally of the instance's memory.
    pub(crate) tally: MemoryTally,
    /// The connections of the instance's guest.
    pub(crate) pool: Arc<GuestPool>,
    /// Most requests that may be sent.
    pub(crate) calls_max: u32,
    /// Longest wait for a connection, for the first byte, and between two bytes. The guest can only ask for less.
    pub(crate) timeout_max: Duration,
}

/// A request that the guest may not send. A host is given with its port.
enum OutboundDenial<'a> {
    /// The host is not granted. `None` if the request names no host.
    Host(Option<&'a str>),
    /// The host is granted, but there is a user name in the URL.
    User(&'a str),
    /// The host is granted by its name, but has an address that is not public.
    Address { host: &'a str, kind: NonPublicKind },
}

/// Summarizes the hosts that a guest may send requests to.
pub(crate) fn granted(grants: &GuestGrants) -> GrantSummary {
    let hosts: Vec<_> = grants
        .outbound_hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    let missing = "there are no outbound_hosts: every call out is denied";
    GrantSummary {
        missing: hosts.is_empty().then_some(missing),
        lines: Some(("outbound", hosts.clone())),
        keys: vec![("outbound_hosts", GrantValue::List(hosts))],
    }
}

type Io = Box<dyn Future<Output = Result<()>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io)>> + Send>;

impl WasiHttpHooks for OutboundClient {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Sending {
        let destination = match self.admit(request.uri()) {
            Ok(destination) => destination,
            Err(error) => return Box::new(async { Err(error) }),
        };
        let (pool, timeouts) = (Arc::clone(&self.pool), self.bounded(options));
        let (accounting, tally) = (self.accounting.clone(), self.tally.clone());
        let source = accounting.source();
        Box::new(async move {
            let to = destination.clone();
            let sent = exchange(pool, source, to, &tally, request, timeouts).await;
            let (response, ended) =
                sent.map_err(|error| failure(&accounting, &destination, error))?;
            let io = async move { ended.await.unwrap_or(Ok(())) };
            Ok((response, Box::new(io) as Io))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }
}

impl OutboundClient {
    /// Returns the destination of a request, and counts the request as sent.
    fn admit(&self, uri: &http::Uri) -> Result<Destination> {
        let destination = grant::destination(&self.hosts, uri).map_err(|refusal| {
            self.accounting.denied(&match refusal {
                DestinationRefusal::NotGranted(host) => OutboundDenial::Host(host),
                DestinationRefusal::UserInfo(host) => OutboundDenial::User(host),
            });
            Error::HttpRequestDenied
        })?;
        // Counted before anything is sent, because an effect that may have happened counts as one that has.
        match self.accounting.count_call(self.calls_max) {
            true => Ok(destination),
            false => Err(Error::ConnectionLimitReached),
        }
    }

    fn bounded(&self, options: Option<RequestOptions>) -> ExchangeTimeouts {
        let requested = options.unwrap_or_default();
        let bound = |wish: Option<Duration>| wish.unwrap_or(self.timeout_max).min(self.timeout_max);
        let connect = bound(requested.connect_timeout);
        ExchangeTimeouts {
            // A call with its own connect timeout may spend all of it in the queue.
            wait: match requested.connect_timeout {
                Some(_) => connect,
                None => connect.min(OUTBOUND_WAIT_MAX),
            },
            connect,
            first_byte: bound(requested.first_byte_timeout),
            between_bytes: bound(requested.between_bytes_timeout),
            rest: self.timeout_max,
        }
    }
}

/// Returns the error for the guest, and reports refused addresses and missing connections to the operator.
fn failure(
    accounting: &RequestAccounting,
    destination: &Destination,
    error: ExchangeError,
) -> Error {
    match error {
        ExchangeError::Failed(error)
        | ExchangeError::Connect(OutboundConnectError::Failed(error)) => error,
        ExchangeError::Full => {
            accounting.found_no_connection();
            Error::ConnectionLimitReached
        }
        ExchangeError::Connect(OutboundConnectError::NotPublic(kind)) => {
            let host = destination.to_string();
            accounting.denied(&OutboundDenial::Address { host: &host, kind });
            Error::DestinationIpProhibited
        }
    }
}

impl GrantDenial for OutboundDenial<'_> {
    fn grant(&self) -> &'static str {
        match self {
            Self::Host(_) | Self::User(_) | Self::Address { .. } => "outbound",
        }
    }

    fn call(&self) -> String {
        match self {
            Self::Host(Some(host)) => format!("a request to {host}"),
            Self::Host(None) => "a request to no host".to_owned(),
            Self::User(host) => format!("a request to {host} with a user name in its URL"),
            Self::Address { host, kind } => {
                format!("a request to {host}, which has a {kind} address")
            }
        }
    }

    fn remedy(&self, guest: &str) -> String {
        let own = |key: &str| format!("guest.{guest}.{key}");
        match self {
            Self::Host(_) => own("outbound_hosts with this host"),
            Self::User(_) => "a URL without a user name".to_owned(),
            Self::Address { host, .. } => own(&format!(
                "outbound_hosts with {{ host = \"{host}\", private = true }}"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
