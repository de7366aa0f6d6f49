//! The request that a handler receives, with its whole body. Independent of the WASI version.

mod extract;

/// A request whose body has been read to its end.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Parameters of the route's pattern, in the order of the pattern, percent-decoded.
    params: Vec<(String, String)>,
}

impl Request {
    /// Returns the method, in upper or lower case as it was sent: `GET`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the path as it was sent, percent-encoded and without the query: `/session`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the query as it was sent, without the `?`. Use [`query_as`](Self::query_as) to parse it.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns all headers in the order they arrived, with names in lower case.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// Returns the first header of this name, in upper or lower case, if its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// Returns the body. The host limits its length, to 10 MiB if not configured otherwise.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Creates a request from the method and from the path with its query, as both versions of WASI provide them.
    pub(crate) fn new(
        method: String,
        path_with_query: Option<String>,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
    ) -> Self {
        let path_with_query = path_with_query.unwrap_or_else(|| "/".to_owned());
        let (path, query) = match path_with_query.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (path_with_query, None),
        };
        Self {
            method,
            path,
            query,
            headers,
            body,
            params: Vec::new(),
        }
    }

    /// Adds the parameters of the route.
    pub(crate) fn with_params(mut self, params: Vec<(String, String)>) -> Self {
        self.params = params;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_ends_at_the_first_question_mark() {
        let request = Request::new(
            "GET".into(),
            Some("/a%20b?c=d?e".into()),
            Vec::new(),
            Vec::new(),
        );
        assert_eq!((request.path(), request.query()), ("/a%20b", Some("c=d?e")));
        let bare = Request::new("GET".into(), Some("/a".into()), Vec::new(), Vec::new());
        assert_eq!((bare.path(), bare.query()), ("/a", None));
    }

    #[test]
    fn a_header_is_found_in_any_case_if_its_value_is_text() {
        let headers = vec![
            ("x-a".to_owned(), b"1".to_vec()),
            ("x-b".to_owned(), vec![0xff]),
        ];
        let request = Request::new("GET".into(), None, headers, Vec::new());
        assert_eq!(request.header("X-A"), Some("1"));
        assert_eq!(request.header("x-b"), None);
        assert_eq!(request.path(), "/");
    }
}
