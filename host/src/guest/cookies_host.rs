//! `cloakroom:http/cookies` as guests call it: each call goes to the host's [`Jar`](crate::cookie::Jar), with the cookies of the
//! request that the store runs.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::cookies::{Attributes, Cookie, Error, Host, Value, add_to_linker};
use super::caller::Caller;
use super::context::Context;
use super::denials::Denial;
use crate::cookie::{self, WriteError};
use crate::record;

/// What the interface is called in a component's imports, without its version.
pub(super) const INTERFACE: &str = "cloakroom:http/cookies";

/// Offers the interface to guests.
///
/// # Errors
/// When it was offered before.
pub(super) fn link(linker: &mut Linker<Context>) -> Result<()> {
    add_to_linker::<Context, HasSelf<Caller>>(linker, |context| &mut context.caller)
}

impl Host for Caller {
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
            Value::Text(text) => cookie::Value::Text(text),
            Value::Json(json) => cookie::Value::Json(json),
        };
        let written = cookies.jar.write(&name, &value, signed, &asked(attributes));
        Ok(written.map_err(|error| {
            let denial = match error {
                WriteError::SessionCookie => Denial::SessionCookie,
                WriteError::LikeASession | WriteError::MightEqualAnId => Denial::LikeASession,
                _ => return Error::Invalid(error.to_string()),
            };
            self.account.denied(&denial);
            Error::Denied(error.to_string())
        }))
    }
}

fn shown(cookie: cookie::Cookie) -> Cookie {
    Cookie {
        name: cookie.name,
        value: cookie.value.map(|value| match value {
            cookie::Value::Text(text) => Value::Text(text),
            cookie::Value::Json(json) => Value::Json(json),
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
