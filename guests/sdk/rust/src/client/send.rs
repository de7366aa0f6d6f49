//! One exchange over `wasi:http/outgoing-handler`: sends the request, waits, and reads the response to its end.

use super::{BODY_BYTES_MAX, Error, Request, Response};
use crate::wasi02::http::outgoing_handler;
use crate::wasi02::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use crate::wasi02::io::streams::StreamError;
use crate::wasi02::write_all;

/// Maximum number of bytes to read at once.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Sends a request and reads the whole response.
pub(super) fn send(request: &Request) -> Result<Response, Error> {
    let url = Url::parse(&request.url)?;
    let why = |code: ErrorCode| explain(code, url.authority);
    let outgoing = head(request, &url)?;
    let body = outgoing.body().map_err(|()| failed("no body"))?;
    let coming = outgoing_handler::handle(outgoing, options(request)).map_err(why)?;
    // The body is written after the call, because the host reads it only from then on.
    write(body, &request.body)?;
    coming.subscribe().block();
    let answer = match coming.get() {
        Some(Ok(answer)) => answer.map_err(why)?,
        Some(Err(())) | None => return Err(failed("the answer was lost")),
    };
    Ok(Response {
        status: answer.status(),
        headers: answer.headers().entries(),
        body: read(&answer, why)?,
    })
}

/// The parts of a URL that a request needs.
struct Url<'u> {
    scheme: Scheme,
    authority: &'u str,
    path_with_query: String,
}

impl<'u> Url<'u> {
    fn parse(url: &'u str) -> Result<Self, Error> {
        let no_url = || Error::Url(origin(url));
        let (scheme, rest) = url.split_once("://").ok_or_else(no_url)?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(no_url()),
        };
        // The fragment is not sent to the server.
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // Credentials belong in a header.
        if authority.is_empty() || authority.contains('@') {
            return Err(no_url());
        }
        let root = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            scheme,
            authority,
            path_with_query: format!("{root}{path}"),
        })
    }
}

/// Returns the part of a URL that may be shown: scheme, host and port. A user with a password, the path and the query
/// may contain secrets.
pub(super) fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "(no scheme)".to_owned();
    };
    let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "+-.".contains(sign);
    let scheme = if scheme.chars().all(is_sign) {
        scheme
    } else {
        "(no scheme)"
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The text in the place of the port may be a part of a password, if a `/` in it has cut off the host.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && !is_port(port) => name,
        _ => host,
    };
    format!("{scheme}://{}", host.escape_debug())
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// Creates the outgoing request: method, URL and headers.
fn head(request: &Request, url: &Url<'_>) -> Result<OutgoingRequest, Error> {
    let mut headers = request.headers.clone();
    let has_length = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !request.body.is_empty() && !has_length {
        let length = request.body.len().to_string();
        headers.push(("content-length".to_owned(), length.into_bytes()));
    }
    let headers = Fields::from_list(&headers)
        .map_err(|error| failed(&format!("a header was refused: {error}")))?;
    let outgoing = OutgoingRequest::new(headers);
    let no_url = |()| Error::Url(origin(&request.url));
    outgoing
        .set_method(&method(&request.method))
        .map_err(|()| failed(&format!("not an HTTP method: `{}`", request.method)))?;
    outgoing.set_scheme(Some(&url.scheme)).map_err(no_url)?;
    outgoing
        .set_authority(Some(url.authority))
        .map_err(no_url)?;
    outgoing
        .set_path_with_query(Some(&url.path_with_query))
        .map_err(no_url)?;
    Ok(outgoing)
}

fn options(request: &Request) -> Option<RequestOptions> {
    let timeout = request.timeout?;
    let nanoseconds = Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    let options = RequestOptions::new();
    // A host refuses these only if it does not support such limits.
    let _ = options.set_connect_timeout(nanoseconds);
    let _ = options.set_first_byte_timeout(nanoseconds);
    let _ = options.set_between_bytes_timeout(nanoseconds);
    Some(options)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), Error> {
    let stream = body.write().map_err(|()| failed("no body"))?;
    // A failed write is not an error: a server may respond before it has read the whole body, and its response counts.
    if write_all(&stream, bytes).is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
    Ok(())
}

/// Reads the response's body to its end.
fn read(answer: &IncomingResponse, why: impl Fn(ErrorCode) -> Error) -> Result<Vec<u8>, Error> {
    let body: IncomingBody = answer.consume().map_err(|()| failed("no body"))?;
    let stream = body.stream().map_err(|()| failed("no body"))?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES_MAX) {
            Ok(piece) if bytes.len() + piece.len() > BODY_BYTES_MAX => return Err(Error::TooLarge),
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(
                    http_error_code(&error).map_or_else(|| failed("the answer broke off"), &why)
                );
            }
        }
    }
}

fn explain(code: ErrorCode, authority: &str) -> Error {
    match code {
        ErrorCode::HttpRequestDenied => Error::NotGranted(authority.to_owned()),
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Error::Timeout,
        code => Error::Failed(format!("`{authority}`: {code}")),
    }
}

fn failed(why: &str) -> Error {
    Error::Failed(why.to_owned())
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        name => Method::Other(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> Option<(bool, &str, String)> {
        let url = Url::parse(url).ok()?;
        let is_tls = matches!(url.scheme, Scheme::Https);
        Some((is_tls, url.authority, url.path_with_query))
    }

    #[test]
    fn a_url_has_a_scheme_an_authority_and_a_path() {
        let whole = |is_tls, authority, path: &str| Some((is_tls, authority, path.to_owned()));
        assert_eq!(parts("http://a.example"), whole(false, "a.example", "/"));
        assert_eq!(
            parts("https://a.example:8443/b/c?d=/e#f"),
            whole(true, "a.example:8443", "/b/c?d=/e")
        );
        assert_eq!(parts("http://a?b"), whole(false, "a", "/?b"));
    }

    #[test]
    fn a_url_that_is_not_absolute_http_is_refused() {
        for url in [
            "",
            "/a",
            "a.example",
            "ftp://a.example",
            "http://",
            "http:///a",
            "http://user:word@a/",
        ] {
            assert_eq!(parts(url), None, "{url}");
        }
    }
    #[test]
    fn only_the_origin_of_a_url_is_shown() {
        for (url, shown) in [
            (
                "https://a.example:8443/b?token=secret#secret",
                "https://a.example:8443",
            ),
            ("http://user:secret@a.example/", "http://a.example"),
            ("http://us@er:secret@a.example", "http://a.example"),
            ("http://a.example?token=secret", "http://a.example"),
            ("http://a.example#secret", "http://a.example"),
            ("ftp://[::1]/secret", "ftp://[::1]"),
            ("http://[::1]:80/secret", "http://[::1]:80"),
            ("http://user:secret/more@a.example", "http://user"),
            ("user:secret@a.example/", "(no scheme)"),
            ("user:secret@a://b.example/", "(no scheme)://b.example"),
            ("/secret", "(no scheme)"),
            ("", "(no scheme)"),
        ] {
            assert_eq!(origin(url), shown);
        }
    }

    #[test]
    fn neither_errors_nor_debug_show_the_secrets_of_a_url() {
        for url in [
            "http://user:secret@a.example/secret?secret",
            "ftp://a.example/secret",
            "secret",
        ] {
            let error = Url::parse(url).err().expect("no URL to ask");
            let shown = format!("{error} {error:?} {:?}", Request::new("GET", url));
            assert!(!shown.contains("secret"), "{shown}");
        }
        let request = Request::new("GET", "https://user:secret@a.example/b?c");
        let shown = r#"Request { method: "GET", url: "https://a.example", .. }"#;
        assert_eq!(format!("{request:?}"), shown);
    }
}
