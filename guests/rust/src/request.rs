//! The request as a handler sees it: read whole. Knows neither version of WASI.

mod extract;

/// A request, its body read to the end.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Of the route's pattern, in its order, percent-decoded.
    params: Vec<(String, String)>,
}

impl Request {
    /// The method in the case it was sent in: `GET`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path as it was sent, percent-encoded, without the query: `/session`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the `?`, as it was sent; [`query_as`](Self::query_as) takes it apart.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// All headers in the order they came in, names in lower case.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The first header of this name, whatever its case, if its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// The body. The host's limit bounds it: 10 MiB if not configured otherwise.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Made of the method and of the path with its query, the way both versions of WASI give them.
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

    /// The same request with the parameters of its route.
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
    fn a_header_is_found_whatever_its_case_and_only_as_text() {
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
