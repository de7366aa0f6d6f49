//! The interface `cloakroom:http/cookies`. Each call goes to the host's [`CookieJar`], with the cookies of the request that the instance
//! serves.

use std::sync::Arc;

use http::HeaderValue;
use http::header::COOKIE;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::RunParts;
use super::accounting::RequestAccounting;
use super::bindings::cookies::{Attributes, Cookie, Error, Host, Value, add_to_linker};
use super::denials::GrantDenial;
use cloakroom_session::cookie;
use cloakroom_session::cookie::{CookieJar, CookieWriteError};
use cloakroom_session::record;

/// The name of the interface in a component's imports, without its version.
pub(crate) const NAME: &str = "cloakroom:http/cookies";

/// The names of its grants in metrics and logs.
pub(crate) const GRANTS: [&str; 1] = ["cookies"];

/// The state of one request.
pub(crate) struct CookieState {
    /// `None` for a guest that does not import the interface.
    cookies: Option<RequestCookies>,
    accounting: RequestAccounting,
}

/// The unparsed cookies of a request, and the jar that reads and writes them.
struct RequestCookies {
    jar: Arc<CookieJar>,
    headers: Vec<HeaderValue>,
}

/// A cookie that the guest may not write.
enum CookieDenial {
    /// The session cookie.
    SessionCookie,
    /// A signed text that could be a session id.
    LikeASession,
}

/// Adds the interface to the linker.
///
/// # Errors
/// Fails if the interface was added before.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut CookieState,
) -> Result<()> {
    add_to_linker::<T, HasSelf<CookieState>>(linker, state)
}

impl CookieState {
    pub(crate) fn of(run: &RunParts<'_>) -> Self {
        let services = run.services.filter(|_| run.guest.imports(NAME));
        let headers = || run.head.headers.get_all(COOKIE).iter().cloned().collect();
        Self {
            cookies: services.map(|services| RequestCookies {
                jar: Arc::clone(&services.jar),
                headers: headers(),
            }),
            accounting: run.accounting.clone(),
        }
    }

    /// Returns the state of an instance that runs no request. It reads no cookies, and writing one is denied.
    pub(crate) fn none(accounting: RequestAccounting) -> Self {
        Self {
            cookies: None,
            accounting,
        }
    }
}

impl Host for CookieState {
    async fn all(&mut self) -> Result<Vec<Cookie>> {
        let Some(cookies) = &self.cookies else {
            return Ok(Vec::new());
        };
        let read = cookies.jar.read(&cookies.headers);
        Ok(read.into_iter().map(shown).collect())
    }

    async fn serialize(
        &mut self,
        name: String,
        value: Value,
        signed: bool,
        attributes: Attributes,
    ) -> Result<std::result::Result<String, Error>> {
        let Some(cookies) = &self.cookies else {
            let why = "there is no request whose response could carry the cookie";
            return Ok(Err(Error::Denied(why.to_owned())));
        };
        let value = match value {
            Value::Text(text) => cookie::CookieValue::Text(text),
            Value::Json(json) => cookie::CookieValue::Json(json),
        };
        let written = cookies.jar.write(&name, &value, signed, &asked(attributes));
        Ok(written.map_err(|error| {
            let denial = match error {
                CookieWriteError::SessionCookie => CookieDenial::SessionCookie,
                CookieWriteError::LikeASession | CookieWriteError::MightEqualAnId => {
                    CookieDenial::LikeASession
                }
                _ => return Error::Invalid(error.to_string()),
            };
            self.accounting.denied(&denial);
            Error::Denied(error.to_string())
        }))
    }
}

impl GrantDenial for CookieDenial {
    fn grant(&self) -> &'static str {
        match self {
            Self::SessionCookie | Self::LikeASession => "cookies",
        }
    }

    fn call(&self) -> String {
        let call = match self {
            Self::SessionCookie => "writing the session's cookie itself",
            Self::LikeASession => {
                "signing a text that could be a session's id with the session's secrets"
            }
        };
        call.to_owned()
    }

    fn remedy(&self, _guest: &str) -> String {
        let remedy = match self {
            Self::SessionCookie => "nothing (the host writes it)",
            Self::LikeASession => "cookies.secrets of their own",
        };
        remedy.to_owned()
    }
}

fn shown(cookie: cookie::RequestCookie) -> Cookie {
    Cookie {
        name: cookie.name,
        value: cookie.value.map(|value| match value {
            cookie::CookieValue::Text(text) => Value::Text(text),
            cookie::CookieValue::Json(json) => Value::Json(json),
        }),
        signed: cookie.is_signed,
    }
}

fn asked(attributes: Attributes) -> record::CookieAttributes {
    record::CookieAttributes {
        original_max_age_ms: attributes.max_age,
        expires_at_ms: attributes.expires,
        path: attributes.path.unwrap_or_else(|| "/".to_owned()),
        domain: attributes.domain,
        http_only: attributes.http_only,
        secure: attributes.secure,
        same_site: attributes.same_site.map(Into::into),
        partitioned: attributes.partitioned,
        priority: attributes.priority.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::super::denials::assert_denial;
    use super::*;

    #[test]
    fn every_cookie_denial_names_its_grant_and_its_remedy() {
        assert_denial(&CookieDenial::SessionCookie, "cookies", "nothing");
        assert_denial(&CookieDenial::LikeASession, "cookies", "cookies.secrets");
    }
}
