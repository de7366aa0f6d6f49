//! Implements `cloakroom:http/cookies` for guests. Each call goes to the host's [`CookieJar`](cloakroom_session::cookie::CookieJar),
//! with the cookies of the request that the store runs.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::cookies::{
    Attributes, Cookie, Error, Host, Priority, SameSite, Value, add_to_linker,
};
use super::denials::GrantDenial;
use crate::engine::context::GuestContext;
use crate::run::request_state::RequestState;
use cloakroom_session::cookie;
use cloakroom_session::cookie::CookieWriteError;
use cloakroom_session::record;

/// The name of the interface in a component's imports, without its version.
pub(crate) const INTERFACE: &str = "cloakroom:http/cookies";

/// Adds the interface to the linker.
///
/// # Errors
/// Fails if the interface was added before.
pub(crate) fn link(linker: &mut Linker<GuestContext>) -> Result<()> {
    add_to_linker::<GuestContext, HasSelf<RequestState>>(linker, |context| &mut context.caller)
}

impl Host for RequestState {
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
            let why = "there is no request whose answer it could go with";
            return Ok(Err(Error::Denied(why.to_owned())));
        };
        let value = match value {
            Value::Text(text) => cookie::CookieValue::Text(text),
            Value::Json(json) => cookie::CookieValue::Json(json),
        };
        let written = cookies.jar.write(&name, &value, signed, &asked(attributes));
        Ok(written.map_err(|error| {
            let denial = match error {
                CookieWriteError::SessionCookie => GrantDenial::SessionCookie,
                CookieWriteError::LikeASession | CookieWriteError::MightEqualAnId => {
                    GrantDenial::LikeASession
                }
                _ => return Error::Invalid(error.to_string()),
            };
            self.account.denied(&denial);
            Error::Denied(error.to_string())
        }))
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
        same_site: attributes.same_site.map(|same_site| match same_site {
            SameSite::Strict => record::SameSite::Strict,
            SameSite::Lax => record::SameSite::Lax,
            SameSite::None => record::SameSite::None,
        }),
        partitioned: attributes.partitioned,
        priority: attributes.priority.map(|priority| match priority {
            Priority::Low => record::Priority::Low,
            Priority::Medium => record::Priority::Medium,
            Priority::High => record::Priority::High,
        }),
    }
}
