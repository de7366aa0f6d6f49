//! The hosts that a guest may send requests to, and the check of a URL against them. Both are normalized first: a host
//! name to lower case and punycode without a trailing dot, an address to its numeric value. Opens no connection.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};

use cloakroom_base::hostname;

/// A host that a guest may send requests to: `api.example.com` (ports 80 and 443), `api.example.com:8080`, or
/// `*.example.com` for all names below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundHost {
    pattern: HostPattern,
    port: Option<u16>,
    private: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Exactly(NormalizedHost),
    /// All names that end in a dot and this name.
    Below(String),
}

/// A host in its normalized form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NormalizedHost {
    Name(String),
    Address(IpAddr),
}

/// Error returned when a text is not an [`OutboundHost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a host name or address with an optional port, such as api.example.com, *.example.com or 10.0.0.1:8080"
)]
pub struct BadHost;

/// The destination of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) tls: bool,
    pub(crate) host: NormalizedHost,
    pub(crate) port: u16,
    /// Whether the host may have addresses that are not public.
    pub(crate) private: bool,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestinationRefusal<'a> {
    /// No grant has this host and port. `None` if the URL names no host, or one that is longer than a host can be.
    NotGranted(Option<&'a str>),
    /// The host is granted, but the URL has user information before it.
    UserInfo(&'a str),
}

impl NormalizedHost {
    /// Parses the host of a URL, with IPv6 addresses in brackets. It parses like a browser, so `0x7f.1` is an address.
    /// A text that is too long for a host is not passed to the parser, because a guest's call must not take long.
    fn parse(text: &str) -> Result<Self, BadHost> {
        if !hostname::is_bounded(text) {
            return Err(BadHost);
        }
        Ok(match url::Host::parse(text).map_err(|_| BadHost)? {
            url::Host::Ipv4(address) => Self::Address(address.into()),
            url::Host::Ipv6(address) => Self::Address(IpAddr::V6(address).to_canonical()),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.split('.').any(str::is_empty) {
                    return Err(BadHost);
                }
                Self::Name(name.to_owned())
            }
        })
    }
}

impl fmt::Display for NormalizedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Displays the destination in the form of a grant that allows it.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            80 | 443 => write!(f, "{}", self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

impl FromStr for OutboundHost {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !rest.ends_with(']') => (host, Some(port_of(port)?)),
            _ => (rest, None),
        };
        // A URL parser accepts these characters, but in a grant they are mistakes.
        if host.contains(['*', '%', '@', '/']) {
            return Err(BadHost);
        }
        let pattern = match (below, NormalizedHost::parse(host)?) {
            (false, host) => HostPattern::Exactly(host),
            (true, NormalizedHost::Name(name)) => HostPattern::Below(name),
            (true, NormalizedHost::Address(_)) => return Err(BadHost),
        };
        Ok(Self {
            pattern,
            port,
            private: false,
        })
    }
}

/// Parses a port in digits. Port 0 is refused, because no server can be reached there.
fn port_of(text: &str) -> Result<u16, BadHost> {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or(BadHost)
}

/// Displays the grant as in the configuration, with the host normalized.
impl fmt::Display for OutboundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            HostPattern::Exactly(host) => write!(f, "{host}")?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if self.private {
            f.write_str(" (private)")?;
        }
        Ok(())
    }
}

impl OutboundHost {
    /// Returns the same host, with or without permission for private addresses.
    #[must_use]
    pub fn with_private(self, private: bool) -> Self {
        Self { private, ..self }
    }

    /// Returns the name whose addresses must be public. `None` if there is no name to look up, or nothing to check.
    pub(crate) fn checked_name(&self) -> Option<&str> {
        match &self.pattern {
            HostPattern::Exactly(NormalizedHost::Name(name)) if !self.allows_private() => {
                Some(name)
            }
            HostPattern::Exactly(_) | HostPattern::Below(_) => None,
        }
    }

    /// Returns whether the host may have addresses that are not public. A literal address and `localhost` always may.
    fn allows_private(&self) -> bool {
        let is_literal = match &self.pattern {
            HostPattern::Exactly(NormalizedHost::Name(name)) => name == "localhost",
            HostPattern::Exactly(NormalizedHost::Address(_)) => true,
            HostPattern::Below(_) => false,
        };
        self.private || is_literal
    }

    fn matches(&self, host: &NormalizedHost, port: u16) -> bool {
        let is_named = match (&self.pattern, host) {
            (HostPattern::Exactly(granted), host) => granted == host,
            (HostPattern::Below(granted), NormalizedHost::Name(name)) => name
                .strip_suffix(granted.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (HostPattern::Below(_), NormalizedHost::Address(_)) => false,
        };
        let granted_port = self.port;
        is_named && granted_port.map_or(port == 80 || port == 443, |granted| granted == port)
    }
}

/// Returns the destination of a request to this URL, if `granted` allows it.
pub(crate) fn destination<'a>(
    granted: &[OutboundHost],
    uri: &'a Uri,
) -> Result<Destination, DestinationRefusal<'a>> {
    let Some(authority) = uri.authority() else {
        return Err(DestinationRefusal::NotGranted(None));
    };
    // A text that is too long for a host is not logged.
    if !hostname::is_bounded(authority.host()) {
        return Err(DestinationRefusal::NotGranted(None));
    }
    let shown = host_and_port(authority);
    let refused = DestinationRefusal::NotGranted(Some(shown));
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let port = match shown.strip_prefix(authority.host()) {
        Some("") => Ok(if tls { 443 } else { 80 }),
        Some(port) => port.strip_prefix(':').ok_or(BadHost).and_then(port_of),
        None => Err(BadHost),
    };
    let (Ok(port), Ok(host)) = (port, NormalizedHost::parse(authority.host())) else {
        return Err(refused);
    };
    let mut matching = granted
        .iter()
        .filter(|it| it.matches(&host, port))
        .peekable();
    if matching.peek().is_none() {
        return Err(refused);
    }
    if shown.len() != authority.as_str().len() {
        return Err(DestinationRefusal::UserInfo(shown));
    }
    Ok(Destination {
        tls,
        private: matching.any(OutboundHost::allows_private),
        host,
        port,
    })
}

/// Returns an authority without the user information that may precede its host.
fn host_and_port(authority: &Authority) -> &str {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_user, host)| host)
}

#[cfg(test)]
mod tests;
