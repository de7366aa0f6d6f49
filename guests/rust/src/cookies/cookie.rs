//! A cookie to be sent.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Error, Priority, SameSite, shape};
use crate::raw::cookies as raw;

/// A cookie to be sent with [`Response::cookie`](crate::Response::cookie). As Express's `res.cookie` makes it: for `/` and
/// below, until the browser is closed, and nothing else unless it is said.
#[derive(Clone)]
pub struct Cookie {
    name: String,
    value: raw::Value,
    is_signed: bool,
    attributes: raw::Attributes,
}

impl Cookie {
    /// A plain cookie with this text; any text can be sent.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::with(name.into(), raw::Value::Text(text.into()))
    }

    /// A plain cookie with a value as JSON (`j:` on the wire).
    ///
    /// # Errors
    /// [`Error::Shape`] if the value is no JSON (a map whose keys are no texts).
    pub fn json<T: Serialize + ?Sized>(name: impl Into<String>, value: &T) -> Result<Self, Error> {
        let name = name.into();
        let json = serde_json::to_string(value).map_err(|error| shape(&name, &error))?;
        Ok(Self::with(name, raw::Value::Json(json)))
    }

    /// Has the browser drop a cookie: Express's `res.clearCookie`. Path and domain must be those it was sent with.
    pub fn clear(name: impl Into<String>) -> Self {
        let mut cookie = Self::new(name, "");
        cookie.attributes.expires = Some(1);
        cookie
    }

    /// Signed by the host: the visitor can read it and not change it.
    pub fn signed(mut self) -> Self {
        self.is_signed = true;
        self
    }

    /// Kept for so long, in whole seconds, also when the browser is closed.
    pub fn max_age(mut self, lifetime: Duration) -> Self {
        let milliseconds = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        self.attributes.max_age = Some(milliseconds);
        self
    }

    /// Sent to this domain and those below it, not only to the host that set it.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.attributes.domain = Some(domain.into());
        self
    }

    /// Sent below this path alone.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.attributes.path = Some(path.into());
        self
    }

    /// Hidden from scripts in the page.
    pub fn http_only(mut self) -> Self {
        self.attributes.http_only = true;
        self
    }

    /// Sent over TLS only.
    pub fn secure(mut self) -> Self {
        self.attributes.secure = true;
        self
    }

    /// Kept apart for each top-level site.
    pub fn partitioned(mut self) -> Self {
        self.attributes.partitioned = true;
        self
    }

    /// Which requests of other sites it is sent with.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.attributes.same_site = Some(same_site);
        self
    }

    /// How late the browser drops it when it has too many.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.attributes.priority = Some(priority);
        self
    }

    /// The value of its `set-cookie` header, which the host makes.
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

/// Without the value: what a cookie holds is for no log.
impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie")
            .field("name", &self.name)
            .field("is_signed", &self.is_signed)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}
