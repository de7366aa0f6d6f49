//! The request's head in the form that both worlds need: with the authority separate from the headers.

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

/// Authority of a request that has none (HTTP/1.0 needs none). Both worlds require one.
const NO_AUTHORITY: &str = "localhost";

/// A request that is passed to a guest.
pub(crate) struct IncomingRequest<B> {
    pub(crate) method: Method,
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    pub(crate) path_with_query: Option<PathAndQuery>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: B,
}

impl<B> IncomingRequest<B> {
    pub(crate) fn new(head: http::request::Parts, scheme: Scheme, body: B) -> Self {
        let uri = head.uri.into_parts();
        let authority = uri
            .authority
            .or_else(|| head.headers.get(HOST).and_then(authority_of))
            .unwrap_or_else(|| Authority::from_static(NO_AUTHORITY));
        let path_with_query = uri.path_and_query;
        Self {
            method: head.method,
            scheme,
            authority,
            path_with_query,
            headers: head.headers,
            body,
        }
    }

    /// Converts it to a request with its authority in the URI.
    pub(crate) fn into_http(self) -> Request<B> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme);
        uri.authority = Some(self.authority);
        uri.path_and_query = Some(
            self.path_with_query
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        );
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.headers_mut() = self.headers;
        request
    }
}

fn authority_of(host: &HeaderValue) -> Option<Authority> {
    Authority::try_from(host.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(uri: &str, host: Option<&str>) -> IncomingRequest<()> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        IncomingRequest::new(request.body(()).unwrap().into_parts().0, Scheme::HTTP, ())
    }

    #[test]
    fn the_authority_is_taken_from_the_uri_or_else_the_host_header() {
        assert_eq!(
            incoming("/a?b", Some("example.com:81")).authority,
            "example.com:81"
        );
        assert_eq!(
            incoming("http://one.test/a", Some("two.test")).authority,
            "one.test"
        );
        assert_eq!(incoming("/a", None).authority, "localhost");
        assert_eq!(incoming("/a", Some("not a host")).authority, "localhost");
    }

    #[test]
    fn a_request_with_all_its_parts_makes_a_whole_uri() {
        assert_eq!(
            incoming("/a?b", Some("example.com")).into_http().uri(),
            "http://example.com/a?b"
        );
        assert_eq!(
            incoming("*", Some("example.com")).into_http().uri().path(),
            "*"
        );
    }
}
