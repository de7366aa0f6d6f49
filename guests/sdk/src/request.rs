//! The request as a handler sees it: read whole. Knows neither version of WASI.

use serde::de::DeserializeOwned;

/// A request, its body read to the end.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method in the case it was sent in: `GET`.
    pub method: String,
    /// The path as it was sent, percent-encoded, without the query: `/session`.
    pub path: String,
    /// What follows the `?`, as it was sent.
    pub query: Option<String>,
    /// The headers in the order they came in, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body. The host's limit bounds it (10 MiB if not configured otherwise).
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name, whatever its case, if its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// The body as a JSON text.
    ///
    /// # Errors
    /// If the body is not JSON, or no `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Made of the method and of the path with its query, the way both versions of WASI give them.
    pub(crate) fn new(
        method: String,
        path_with_query: Option<String>,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
    ) -> Self {
        let mut path = path_with_query.unwrap_or_else(|| "/".to_owned());
        let query = path.find('?').map(|at| {
            let query = path.split_off(at + 1);
            path.truncate(at);
            query
        });
        Self {
            method,
            path,
            query,
            headers,
            body,
        }
    }
}
