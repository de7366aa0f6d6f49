//! Requests that a guest sends to other servers: denied but for the hosts it was granted, and counted as an effect, after
//! which its request is never run again. Knows no session.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{
    Error, RequestOptions, Result, WasiBody, WasiHttpHooks, default_send_request,
};

use super::account::Account;
use super::denials::Denial;

/// Largest piece that a guest may write to a body at once, in bytes. Two of them wait at most, so this is also how far a
/// guest can run ahead of the release of its answer (64 KiB) before it has to let the host look.
pub(super) const BODY_CHUNK_BYTES_MAX: usize = 16 << 10;

/// A host that a guest may send requests to: `api.example.com` (ports 80 and 443), `api.example.com:8080`, or with all
/// names below it `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundHost {
    name: String,
    below: bool,
    port: Option<u16>,
}

/// Why a text is no [`OutboundHost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a host name or address with an optional port, such as api.example.com, *.example.com or 10.0.0.1:8080"
)]
pub struct NotAHost;

impl FromStr for OutboundHost {
    type Err = NotAHost;

    fn from_str(text: &str) -> std::result::Result<Self, NotAHost> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let authority: Authority = rest.parse().map_err(|_| NotAHost)?;
        let port = authority.port_u16();
        let expected = port.map_or(authority.host().to_owned(), |port| {
            format!("{}:{port}", authority.host())
        });
        // What is left over is a user name, a bad port or a second `*`.
        if expected != rest || rest.contains('*') || authority.host().is_empty() {
            return Err(NotAHost);
        }
        Ok(Self {
            name: authority.host().to_ascii_lowercase(),
            below,
            port,
        })
    }
}

impl OutboundHost {
    fn matches(&self, authority: &Authority, scheme: &Scheme) -> bool {
        let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default_port);
        let host = authority.host().to_ascii_lowercase();
        let is_named = match self.below {
            false => host == self.name,
            true => host
                .strip_suffix(&self.name)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        };
        is_named
            && self
                .port
                .map_or(port == 80 || port == 443, |granted| granted == port)
    }
}

/// The way out of one instance.
pub(super) struct Outbound {
    pub(super) hosts: Arc<[OutboundHost]>,
    pub(super) account: Account,
    /// Requests that may leave.
    pub(super) calls_max: u32,
    /// Longest wait for a connection, for the first byte and between two bytes: whatever the guest asks for, not more.
    pub(super) patience: Duration,
}

type Io = Box<dyn Future<Output = Result<()>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io)>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Sending {
        if !self.may_reach(request.uri()) {
            let host = request.uri().authority().map(host_and_port);
            self.account.denied(&Denial::Outbound(host));
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        // Counted before anything leaves: an effect that may have happened counts as one that has.
        if !self.account.count_call(self.calls_max) {
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        }
        let options = self.bounded(options);
        Box::new(async move {
            let (response, io) = default_send_request(request, Some(options)).await?;
            Ok((response.map(BodyExt::boxed_unsync), Box::new(io) as Io))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }
}

impl Outbound {
    fn may_reach(&self, uri: &http::Uri) -> bool {
        let (Some(authority), Some(scheme)) = (uri.authority(), uri.scheme()) else {
            return false;
        };
        self.hosts
            .iter()
            .any(|host| host.matches(authority, scheme))
    }

    fn bounded(&self, options: Option<RequestOptions>) -> RequestOptions {
        let asked = options.unwrap_or_default();
        let bound = |wish: Option<Duration>| Some(wish.unwrap_or(self.patience).min(self.patience));
        RequestOptions {
            connect_timeout: bound(asked.connect_timeout),
            first_byte_timeout: bound(asked.first_byte_timeout),
            between_bytes_timeout: bound(asked.between_bytes_timeout),
        }
    }
}

/// An authority without the user's name and password that may stand before its host.
fn host_and_port(authority: &Authority) -> &str {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_user, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(granted: &str, uri: &str) -> bool {
        let hosts = granted
            .split_whitespace()
            .map(|host| host.parse().unwrap())
            .collect();
        let outbound = Outbound {
            hosts,
            account: Account::none(),
            calls_max: 1,
            patience: Duration::from_secs(1),
        };
        outbound.may_reach(&uri.parse().unwrap())
    }

    #[test]
    fn only_granted_hosts_and_ports_are_reached() {
        assert!(reaches("api.example.com", "https://API.example.com/x"));
        assert!(reaches("api.example.com", "http://api.example.com"));
        assert!(!reaches("api.example.com", "http://api.example.com:8080"));
        assert!(reaches(
            "api.example.com:8080",
            "http://api.example.com:8080/"
        ));
        assert!(!reaches("api.example.com:8080", "http://api.example.com/"));
        assert!(!reaches("", "http://api.example.com/"));
        assert!(!reaches(
            "api.example.com",
            "http://api.example.com.evil.test/"
        ));
        assert!(!reaches(
            "api.example.com",
            "http://api.example.com@evil.test/"
        ));
        assert!(reaches("[::1]:80", "http://[::1]/"));
    }

    #[test]
    fn a_star_grants_the_names_below_and_not_the_name_itself() {
        assert!(reaches("*.example.com", "https://a.b.example.com/"));
        assert!(!reaches("*.example.com", "https://example.com/"));
        assert!(!reaches("*.example.com", "https://badexample.com/"));
    }

    #[test]
    fn a_password_in_an_authority_is_not_said() {
        let authority = "user:hunter2@api.test:81".parse().unwrap();
        assert_eq!(host_and_port(&authority), "api.test:81");
        assert_eq!(host_and_port(&"[::1]:80".parse().unwrap()), "[::1]:80");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "", "*", "a*b", "http://x", "x/y", "u@x", "x:99999", "*.", "*.*.x",
        ] {
            assert_eq!(text.parse::<OutboundHost>(), Err(NotAHost), "{text}");
        }
    }
}
