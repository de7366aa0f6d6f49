//! Access control: a client must present the token. Without a token, only programs on this machine are allowed, and no web
//! pages.
//!
//! Decision 14 in `host/docs/decisions` has the reasons.

use std::fmt;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::AdminOptions;
use crate::json_api::{Refusal, check_no_page, problem};

/// The digest of the token that clients must present. The token itself is not stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Creates the token from its text.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Returns whether `shown` is the token. The comparison takes constant time, so it does not reveal how much of `shown` is
    /// right.
    fn is(&self, shown: &[u8]) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.0.ct_eq(&shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The clients that can reach the listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerReach {
    /// Programs on this machine.
    Machine,
    /// Other machines as well.
    Network,
}

impl ListenerReach {
    pub(crate) fn of(options: &AdminOptions) -> Self {
        match options.listen.ip().to_canonical().is_loopback() {
            true => Self::Machine,
            false => Self::Network,
        }
    }
}

/// The permission that a request needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// None: the response reveals nothing.
    Nothing,
    /// Access to numbers. Needs no token on this machine.
    Little,
    /// Full access: the request lists or changes guests, or the servers of the store.
    Everything,
}

/// Returns the response that rejects the request, if it is not allowed.
pub(crate) fn check(
    reach: ListenerReach,
    token: Option<&Token>,
    needs: Permission,
    head: &Parts,
) -> Result<(), Refusal> {
    let is_token_wanted = match needs {
        Permission::Nothing => return Ok(()),
        Permission::Little => reach == ListenerReach::Network,
        Permission::Everything => true,
    };
    match token {
        Some(token) if shows(token, head) => Ok(()),
        Some(_) if is_token_wanted => Err(unauthorized()),
        // A configuration that would allow this is refused at the start. Deny the request in any case.
        None if reach == ListenerReach::Network => Err(unauthorized()),
        Some(_) | None => check_no_page(head),
    }
}

fn shows(token: &Token, head: &Parts) -> bool {
    let mut values = head.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let bytes = value.as_bytes();
    bytes.len() > 7 && bytes[..7].eq_ignore_ascii_case(b"bearer ") && token.is(&bytes[7..])
}

fn unauthorized() -> Refusal {
    let sentence = "this request needs the admin token: send `Authorization: Bearer TOKEN`";
    let mut response = problem(StatusCode::UNAUTHORIZED, sentence);
    let scheme = HeaderValue::from_static("Bearer realm=\"cloakroom\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/guests");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(
        reach: ListenerReach,
        token: Option<&Token>,
        needs: Permission,
        headers: &[(&str, &str)],
    ) -> Option<u16> {
        let checked = check(reach, token, needs, &head(headers));
        checked.err().map(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn without_a_token_only_local_requests_of_no_web_page_are_accepted() {
        let check = |headers: &[(&str, &str)]| {
            status(
                ListenerReach::Machine,
                None,
                Permission::Everything,
                headers,
            )
        };
        for host in [
            "localhost",
            "LocalHost:3001",
            "localhost.:3001",
            "127.0.0.1:3001",
            "127.9.9.9",
            "[::1]:3001",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(check(&[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example:3001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "10.0.0.1",
            "[::2]",
            "",
            "a b",
        ] {
            assert_eq!(check(&[("host", host)]), Some(403), "{host}");
        }
        assert_eq!(check(&[]), Some(403), "HTTP/1.0 without a host");
        let page = [("host", "localhost"), ("origin", "null")];
        assert_eq!(check(&page), Some(403));
    }

    #[test]
    fn with_a_token_only_requests_with_the_token_are_accepted() {
        let token = Token::new("right");
        let check = |reach, needs, value: &str| {
            let headers = [("host", "admin.example"), ("authorization", value)];
            status(reach, Some(&token), needs, &headers)
        };
        for reach in [ListenerReach::Machine, ListenerReach::Network] {
            for right in ["Bearer right", "bearer right"] {
                assert_eq!(check(reach, Permission::Everything, right), None);
            }
            for wrong in [
                "Bearer wrong",
                "Bearer right ",
                "Basic right",
                "right",
                "",
                "Bearer ",
            ] {
                assert_eq!(
                    check(reach, Permission::Everything, wrong),
                    Some(401),
                    "{wrong}"
                );
            }
            assert_eq!(check(reach, Permission::Nothing, ""), None);
        }
        assert_eq!(
            check(ListenerReach::Network, Permission::Little, ""),
            Some(401)
        );
        let twice = [
            ("authorization", "Bearer right"),
            ("authorization", "Bearer right"),
        ];
        let everything = Permission::Everything;
        assert_eq!(
            status(ListenerReach::Machine, Some(&token), everything, &twice),
            Some(401)
        );
        let local = [("host", "127.0.0.1:3001")];
        assert_eq!(
            status(
                ListenerReach::Machine,
                Some(&token),
                Permission::Little,
                &local
            ),
            None
        );
        assert_eq!(
            status(ListenerReach::Network, None, everything, &local),
            Some(401),
            "a network without a token"
        );
    }

    #[test]
    fn debug_shows_no_token() {
        assert_eq!(format!("{:?}", Token::new("hunter2")), "Token(..)");
    }
}
