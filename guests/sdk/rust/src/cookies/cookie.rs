//! A cookie to send.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Error, Priority, SameSite, shape};
use crate::raw::cookies as raw;

/// A cookie to send with [`Response::cookie`](crate::Response::cookie). Its defaults are those of Express's
/// `res.cookie`: the path is `/`, the cookie lasts until the browser is closed, and no other attribute is set.
#[derive(Clone)]
pub struct Cookie {
    name: String,
    value: raw::Value,
    is_signed: bool,
    attributes: raw::Attributes,
}

impl Cookie {
    /// Creates a plain cookie with this text. Any text can be sent.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::with(name.into(), raw::Value::Text(text.into()))
    }

    /// Creates a plain cookie with a value as JSON (`j:` on the wire).
    ///
    /// # Errors
    /// [`Error::Shape`] if the value cannot be written as JSON (a map whose keys are not texts).
    pub fn json<T: Serialize + ?Sized>(name: impl Into<String>, value: &T) -> Result<Self, Error> {
        let name = name.into();
        let json = serde_json::to_string(value).map_err(|error| shape(&name, &error))?;
        Ok(Self::with(name, raw::Value::Json(json)))
    }

    /// Creates a cookie that makes the browser delete a cookie, like Express's `res.clearCookie`. Path and domain must
    /// be those that the cookie was sent with.
    pub fn clear(name: impl Into<String>) -> Self {
        let mut cookie = Self::new(name, "");
        cookie.attributes.expires = Some(1);
        cookie
    }

    /// Makes the host sign the cookie: the visitor can read it but cannot change it.
    pub fn signed(mut self) -> Self {
        self.is_signed = true;
        self
    }

    /// Sets the lifetime of the cookie, in whole seconds. The cookie then survives closing the browser.
    pub fn max_age(mut self, lifetime: Duration) -> Self {
        let milliseconds = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        self.attributes.max_age = Some(milliseconds);
        self
    }

    /// Sends the cookie to this domain and its subdomains, not only to the host that set it.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.attributes.domain = Some(domain.into());
        self
    }

    /// Sends the cookie only to this path and the paths below it.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.attributes.path = Some(path.into());
        self
    }

    /// Hides the cookie from scripts in the page.
    pub fn http_only(mut self) -> Self {
        self.attributes.http_only = true;
        self
    }

    /// Sends the cookie only over TLS.
    pub fn secure(mut self) -> Self {
        self.attributes.secure = true;
        self
    }

    /// Makes the browser store the cookie separately for each top-level site.
    pub fn partitioned(mut self) -> Self {
        self.attributes.partitioned = true;
        self
    }

    /// Sets the cross-site requests that the cookie is sent with.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.attributes.same_site = Some(same_site);
        self
    }

    /// Sets how late the browser deletes the cookie when it has too many cookies.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.attributes.priority = Some(priority);
        self
    }

    /// Returns the value of the `set-cookie` header, which the host creates.
    ///
    /// # Errors
    /// `Denied`, `Invalid`.
    pub fn serialize(&self) -> Result<String, Error> {
        let header = raw::serialize(&self.name, &self.value, self.is_signed, &self.attributes);
        Ok(header?)
    }

    fn with(name: String, value: raw::Value) -> Self {
        Self {
            name,
            value,
            is_signed: false,
            attributes: raw::Attributes {
                max_age: None,
                expires: None,
                domain: None,
                path: None,
                http_only: false,
                secure: false,
                partitioned: false,
                priority: None,
                same_site: None,
            },
        }
    }
}

/// Omits the value, because cookie values must not be logged.
impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie")
            .field("name", &self.name)
            .field("is_signed", &self.is_signed)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}
