//! The hosts that a guest may send requests to, and what a URL means beside them. Both are brought to one form first: a host
//! name in lower case and punycode without a last dot, or an address however it is spelled. Opens no connection.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::hostname;

/// A host that a guest may send requests to: `api.example.com` (ports 80 and 443), `api.example.com:8080`, or with all
/// names below it `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundHost {
    pattern: Pattern,
    port: Option<u16>,
    private: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(Host),
    /// All names that end in a dot and this one.
    Below(String),
}

/// One host in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

/// Why a text is no [`OutboundHost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a host name or address with an optional port, such as api.example.com, *.example.com or 10.0.0.1:8080"
)]
pub struct NotAHost;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    /// Whether the host may have addresses that are not public.
    pub(super) private: bool,
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal<'a> {
    /// No grant has this host and port; `None` if the URL names none, or what it names is longer than a host can be.
    NotGranted(Option<&'a str>),
    /// The host is granted, but a user name stands before it.
    UserInfo(&'a str),
}

impl Host {
    /// Reads the host of a URL, IPv6 addresses in brackets. As a browser does, so that `0x7f.1` is the address that it is. The parser
    /// sees no text that is too long for a host: a guest's call must not take long.
    fn parse(text: &str) -> Result<Self, NotAHost> {
        if !hostname::is_bounded(text) {
            return Err(NotAHost);
        }
        Ok(match url::Host::parse(text).map_err(|_| NotAHost)? {
            url::Host::Ipv4(address) => Self::Address(address.into()),
            url::Host::Ipv6(address) => Self::Address(IpAddr::V6(address).to_canonical()),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.split('.').any(str::is_empty) {
                    return Err(NotAHost);
                }
                Self::Name(name.to_owned())
            }
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// As a grant that allows it would be written.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            80 | 443 => write!(f, "{}", self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

impl FromStr for OutboundHost {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !rest.ends_with(']') => (host, Some(port_of(port)?)),
            _ => (rest, None),
        };
        // A URL's parser takes these; in a grant they are mistakes.
        if host.contains(['*', '%', '@', '/']) {
            return Err(NotAHost);
        }
        let pattern = match (below, Host::parse(host)?) {
            (false, host) => Pattern::Exactly(host),
            (true, Host::Name(name)) => Pattern::Below(name),
            (true, Host::Address(_)) => return Err(NotAHost),
        };
        Ok(Self {
            pattern,
            port,
            private: false,
        })
    }
}

/// A port in digits, and not 0: no server can be reached there.
fn port_of(text: &str) -> Result<u16, NotAHost> {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or(NotAHost)
}

/// As the configuration says it, but for the spelling of the host.
impl fmt::Display for OutboundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Exactly(host) => write!(f, "{host}")?,
            Pattern::Below(name) => write!(f, "*.{name}")?,
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
    /// The same host, which may have private addresses, or may not.
    #[must_use]
    pub fn with_private(self, private: bool) -> Self {
        Self { private, ..self }
    }

    /// The name whose addresses are checked; none where there is nothing to look up or nothing to check.
    pub(super) fn checked_name(&self) -> Option<&str> {
        match &self.pattern {
            Pattern::Exactly(Host::Name(name)) if !self.allows_private() => Some(name),
            Pattern::Exactly(_) | Pattern::Below(_) => None,
        }
    }

    /// Whether the host may have addresses that are not public: an address and `localhost` are granted as they are written.
    fn allows_private(&self) -> bool {
        let is_literal = match &self.pattern {
            Pattern::Exactly(Host::Name(name)) => name == "localhost",
            Pattern::Exactly(Host::Address(_)) => true,
            Pattern::Below(_) => false,
        };
        self.private || is_literal
    }

    fn matches(&self, host: &Host, port: u16) -> bool {
        let is_named = match (&self.pattern, host) {
            (Pattern::Exactly(granted), host) => granted == host,
            (Pattern::Below(granted), Host::Name(name)) => name
                .strip_suffix(granted.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Pattern::Below(_), Host::Address(_)) => false,
        };
        let granted_port = self.port;
        is_named && granted_port.map_or(port == 80 || port == 443, |granted| granted == port)
    }
}

/// Where a request to this URL goes, if `granted` allows it.
pub(super) fn destination<'a>(
    granted: &[OutboundHost],
    uri: &'a Uri,
) -> Result<Destination, Refusal<'a>> {
    let Some(authority) = uri.authority() else {
        return Err(Refusal::NotGranted(None));
    };
    // The log is not told of more than a host has.
    if !hostname::is_bounded(authority.host()) {
        return Err(Refusal::NotGranted(None));
    }
    let shown = host_and_port(authority);
    let refused = Refusal::NotGranted(Some(shown));
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let port = match shown.strip_prefix(authority.host()) {
        Some("") => Ok(if tls { 443 } else { 80 }),
        Some(port) => port.strip_prefix(':').ok_or(NotAHost).and_then(port_of),
        None => Err(NotAHost),
    };
    let (Ok(port), Ok(host)) = (port, Host::parse(authority.host())) else {
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
        return Err(Refusal::UserInfo(shown));
    }
    Ok(Destination {
        tls,
        private: matching.any(OutboundHost::allows_private),
        host,
        port,
    })
}

/// An authority without the user information that may stand before its host.
fn host_and_port(authority: &Authority) -> &str {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_user, host)| host)
}

#[cfg(test)]
mod tests;
