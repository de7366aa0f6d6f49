//! The answer to a visitor's request.

use serde::de::DeserializeOwned;
use ureq::http::HeaderMap;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Returns the status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the first header with this name, ignoring case.
    ///
    /// # Panics
    /// If the value is not ASCII text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name)?;
        Some(value.to_str().expect("a header of printable ASCII"))
    }

    /// Returns every `set-cookie` header, in order.
    ///
    /// # Panics
    /// If a value is not ASCII text.
    pub fn set_cookies(&self) -> Vec<&str> {
        let values = self.headers.get_all("set-cookie").iter();
        values
            .map(|value| value.to_str().expect("a header of printable ASCII"))
            .collect()
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a body of UTF-8")
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If the body is not a `T`. The panic shows the body.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in `{}`", self.text()))
    }
}
