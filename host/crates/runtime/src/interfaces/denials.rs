//! Counts and logs the calls that a guest was denied. A log line names the setting that would allow the call. It contains no session key,
//! no value, and no part of an address other than the host.
//!
//! Each denied call is counted. It is logged once for each request and grant, in at most ten lines a minute for each guest and
//! grant; the next line reports how many requests were left out. The line names the configuration's key. A forged cookie, which
//! any visitor can send, is not a denial.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::outbound::NonPublicKind;
use cloakroom_base::limits::DENIAL_LINES_MAX;
use cloakroom_base::telemetry::RateLimitedLines;
use cloakroom_base::telemetry::metrics::{GrantKind, GuestMetrics};
use cloakroom_session as session;

/// A call that was refused because a grant is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GrantDenial<'a> {
    /// A session call.
    Session(&'a session::SessionDenial),
    /// An outbound request to this host, with its port. `None` if the request names no host.
    Outbound(Option<&'a str>),
    /// An outbound request to a granted host, with a user name in its URL.
    OutboundUser(&'a str),
    /// An outbound request to a host that is granted by its name but has an address that is not public.
    OutboundAddress { host: &'a str, kind: NonPublicKind },
    /// Writing the session cookie as one of the guest's own cookies.
    SessionCookie,
    /// Signing a text that could be a session id.
    LikeASession,
}

impl GrantDenial<'_> {
    pub(crate) fn grant(&self) -> GrantKind {
        match self {
            Self::Session(denial) => match denial {
                session::SessionDenial::NoAccess
                | session::SessionDenial::OutsidePath
                | session::SessionDenial::ReadOnly => GrantKind::Session,
                session::SessionDenial::ReadKey(_) => GrantKind::ReadKeys,
                session::SessionDenial::WriteKey(_) | session::SessionDenial::WriteEvery(_) => {
                    GrantKind::WriteKeys
                }
            },
            Self::Outbound(_) | Self::OutboundUser(_) | Self::OutboundAddress { .. } => {
                GrantKind::Outbound
            }
            Self::SessionCookie | Self::LikeASession => GrantKind::Cookies,
        }
    }

    /// Returns the setting, of the guest or of the host, that would allow the call.
    fn remedy(&self, guest: &str) -> String {
        let own = |key: &str| format!("guest.{guest}.{key}");
        match self {
            Self::Session(denial) => match denial {
                session::SessionDenial::NoAccess => own("session = \"read\" or \"write\""),
                session::SessionDenial::OutsidePath => "another session.cookie.path".to_owned(),
                session::SessionDenial::ReadOnly => own("session = \"write\""),
                session::SessionDenial::ReadKey(_) => own("read_keys with this key"),
                session::SessionDenial::WriteKey(_) => own("write_keys with this key"),
                session::SessionDenial::WriteEvery(_) => own("write_keys left out"),
            },
            Self::Outbound(_) => own("outbound_hosts with this host"),
            Self::OutboundUser(_) => "a URL without a user name".to_owned(),
            Self::OutboundAddress { host, .. } => own(&format!(
                "outbound_hosts with {{ host = \"{host}\", private = true }}"
            )),
            Self::SessionCookie => "nothing (the host writes it)".to_owned(),
            Self::LikeASession => "cookies.secrets of their own".to_owned(),
        }
    }
}

/// Describes the denied call for the log.
impl fmt::Display for GrantDenial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(denial) => match denial {
                session::SessionDenial::NoAccess => f.write_str("the session"),
                session::SessionDenial::OutsidePath => {
                    f.write_str("the session outside of its cookie's path")
                }
                session::SessionDenial::ReadOnly => f.write_str("a change of the session"),
                session::SessionDenial::ReadKey(_) => f.write_str("reading a key of the session"),
                session::SessionDenial::WriteKey(_) => f.write_str("writing a key of the session"),
                session::SessionDenial::WriteEvery(operation) => {
                    write!(f, "`{operation}`, which writes every key of the session")
                }
            },
            Self::Outbound(Some(host)) => write!(f, "a request to {host}"),
            Self::Outbound(None) => f.write_str("a request to no host"),
            Self::OutboundUser(host) => {
                write!(f, "a request to {host} with a user name in its URL")
            }
            Self::OutboundAddress { host, kind } => {
                write!(f, "a request to {host}, which has a {kind} address")
            }
            Self::SessionCookie => f.write_str("writing the session's cookie itself"),
            Self::LikeASession => f.write_str(
                "signing a text that could be a session's id with the session's secrets",
            ),
        }
    }
}

/// The denials of one version of a guest.
#[derive(Debug)]
pub(crate) struct DenialCounters {
    guest: Arc<str>,
    metrics: Arc<GuestMetrics>,
    lines: RateLimitedLines<GrantKind>,
}

impl DenialCounters {
    pub(crate) fn new(guest: Arc<str>, metrics: Arc<GuestMetrics>) -> Arc<Self> {
        Arc::new(Self {
            guest,
            metrics,
            lines: RateLimitedLines::new(DENIAL_LINES_MAX),
        })
    }

    /// Counts a call for which no outgoing connection became free in time.
    pub(crate) fn found_no_connection(&self) {
        self.metrics.found_no_connection();
    }

    pub(crate) fn count(&self, denial: &GrantDenial<'_>) {
        self.metrics.denied(denial.grant());
    }

    /// Logs a denial, unless many were logged recently. The next logged line then reports how many were suppressed.
    pub(crate) fn tell(&self, denial: &GrantDenial<'_>, request_id: &str) {
        let Some(line) = self.lines.take_line(denial.grant(), Instant::now()) else {
            return;
        };
        tracing::warn!(
            guest = %self.guest, request_id, grant = denial.grant().as_str(), untold = line.untold,
            "a guest was denied {denial}; {} would allow it", denial.remedy(&self.guest),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denial_names_its_grant_and_what_would_allow_it_and_no_key_of_a_session() {
        let key = || "hunter2".to_owned();
        let cases = [
            (
                session::SessionDenial::NoAccess,
                "session",
                "guest.a.session",
            ),
            (
                session::SessionDenial::OutsidePath,
                "session",
                "session.cookie.path",
            ),
            (
                session::SessionDenial::ReadOnly,
                "session",
                "guest.a.session",
            ),
            (
                session::SessionDenial::ReadKey(key()),
                "read_keys",
                "guest.a.read_keys",
            ),
            (
                session::SessionDenial::WriteKey(key()),
                "write_keys",
                "guest.a.write_keys",
            ),
            (
                session::SessionDenial::WriteEvery("clear"),
                "write_keys",
                "guest.a.write_keys",
            ),
        ];
        let sessions = cases
            .iter()
            .map(|(denial, grant, key)| (GrantDenial::Session(denial), *grant, *key));
        let others = [
            (
                GrantDenial::Outbound(Some("api.test:80")),
                "outbound",
                "guest.a.outbound_hosts",
            ),
            (
                GrantDenial::OutboundUser("api.test:80"),
                "outbound",
                "a URL without a user name",
            ),
            (
                GrantDenial::OutboundAddress {
                    host: "api.test:81",
                    kind: NonPublicKind::Loopback,
                },
                "outbound",
                "guest.a.outbound_hosts with { host = \"api.test:81\", private = true }",
            ),
            (GrantDenial::SessionCookie, "cookies", "nothing"),
            (GrantDenial::LikeASession, "cookies", "cookies.secrets"),
        ];
        for (denial, grant, remedy) in sessions.chain(others) {
            assert_eq!(denial.grant().as_str(), grant);
            assert!(
                denial.remedy("a").contains(remedy),
                "{}",
                denial.remedy("a")
            );
            let said = format!("{denial} {}", denial.remedy("a"));
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
