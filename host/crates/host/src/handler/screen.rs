//! Request validation. A request that passes has exactly one host, one path in one spelling and at most one body length. It has
//! no header fields about the connection.
//!
//! The session cookie stays in the headers: the request's target is not known yet, and not every target has to be kept from it.
//! hyper has already refused input that is not valid HTTP, and it closes connections whose framing is ambiguous. This module
//! refuses valid HTTP that two servers could still read differently.

mod host;

use std::net::{IpAddr, SocketAddr};

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use self::host::is_host_and_port;
use super::headers::{self, ProxyTrust};
use crate::route::path;
use cloakroom_base::limits::REQUEST_METHOD_BYTES_MAX;

/// The limits and settings of the request validation.
#[derive(Clone, Debug)]
pub struct ScreenOptions {
    /// The name of the session cookie.
    pub cookie_name: String,
    /// The peers whose forwarding headers are trusted.
    pub proxy_trust: ProxyTrust,
    /// The largest head, as the sum of the names and values, in bytes.
    pub head_bytes_max: usize,
    /// The largest number of header fields.
    pub headers_max: usize,
    /// The longest path and query, in bytes.
    pub target_bytes_max: usize,
}

/// The properties of a request that passed the validation.
#[derive(Debug)]
pub(crate) struct ScreenedRequest {
    /// The host and port that the client asked for. Never empty.
    pub(crate) host: String,
    /// The scheme that the visitor used to reach the host, or the proxy in front of it.
    pub(crate) scheme: Scheme,
    /// The visitor's address: the peer's, or the address that a trusted proxy reports.
    pub(crate) client: IpAddr,
    /// The size of the head as it arrived, including the session cookie.
    pub(crate) head_size: HeadSize,
    /// The value of `Content-Length`.
    pub(crate) content_length: Option<u64>,
    /// The path in normal form.
    pub(crate) path: String,
}

/// The reason why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScreenReject {
    /// 400. The text is sent to the client.
    Malformed(&'static str),
    /// 414.
    TargetTooLong,
    /// 431.
    HeadTooLarge,
    /// 501: guests never receive this method.
    MethodNotImplemented,
    /// 501: the transfer coding is not supported (RFC 9112, section 6.1).
    CodingNotImplemented,
}

/// Validates a request's head and rewrites it into the form that targets see: `uri` is the normalized path and the query, and
/// `Host` contains the authority.
pub(crate) fn screen(
    head: &mut Parts,
    peer: IpAddr,
    local: SocketAddr,
    options: &ScreenOptions,
) -> Result<ScreenedRequest, ScreenReject> {
    // CONNECT asks for a tunnel. TRACE would reveal cookies to scripts that must not see them.
    let is_refused = head.method == Method::CONNECT || head.method == Method::TRACE;
    if is_refused || head.method.as_str().len() > REQUEST_METHOD_BYTES_MAX {
        return Err(ScreenReject::MethodNotImplemented);
    }
    if !is_plainly_framed(&head.headers) {
        return Err(ScreenReject::CodingNotImplemented);
    }
    let target_bytes = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target_bytes > options.target_bytes_max {
        return Err(ScreenReject::TargetTooLong);
    }
    let head_size = HeadSize::of(&head.headers);
    if head_size.is_above(Some(options.head_bytes_max), Some(options.headers_max)) {
        return Err(ScreenReject::HeadTooLarge);
    }
    let host = one_host(head, local)?;
    let content_length = one_content_length(&head.headers)?;
    head.uri = normal_target(&head.uri)?;

    headers::remove_lookalikes(&mut head.headers);
    let forwarded = headers::take_forwarded(&mut head.headers, peer, &options.proxy_trust);
    headers::remove_hop_by_hop(&mut head.headers);
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers)?;
    }
    Ok(ScreenedRequest {
        host,
        scheme: forwarded.scheme,
        client: forwarded.client,
        head_size,
        content_length,
        path: head.uri.path().to_owned(),
    })
}

/// The size of a head. hyper counts it differently for HTTP/1.1 than h2 does for HTTP/2. This type counts it in the same way for
/// both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadSize {
    /// The names and values, in bytes.
    bytes: usize,
    fields: usize,
}

impl HeadSize {
    fn of(headers: &HeaderMap) -> Self {
        let bytes = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        Self {
            bytes,
            fields: headers.len(),
        }
    }

    /// Whether the size exceeds either limit. `None` means no limit.
    pub(crate) fn is_above(self, bytes_max: Option<usize>, fields_max: Option<usize>) -> bool {
        bytes_max.is_some_and(|max| self.bytes > max)
            || fields_max.is_some_and(|max| self.fields > max)
    }
}

/// Returns the only authority of a request (RFC 9112, section 3.2; RFC 9113, section 8.3.1) and stores it in `Host`.
fn one_host(head: &mut Parts, local: SocketAddr) -> Result<String, ScreenReject> {
    let in_header = {
        let mut values = head.headers.get_all(HOST).iter();
        let first = values.next().map(authority).transpose()?;
        if values.next().is_some() {
            return Err(ScreenReject::Malformed(
                "There is more than one Host header.",
            ));
        }
        first
    };
    let in_target = head.uri.authority().cloned();
    if in_target
        .as_ref()
        .is_some_and(|target| !is_host_and_port(target))
    {
        return Err(ScreenReject::Malformed("The request target names no host."));
    }
    let host = match (in_target, in_header) {
        (Some(target), Some(header)) if head.version == Version::HTTP_2 && target != header => {
            return Err(ScreenReject::Malformed("Host and :authority differ."));
        }
        // RFC 9112, section 3.2.2: an absolute target overrides the Host header, which must still be present.
        (Some(_), None) if head.version == Version::HTTP_11 => {
            return Err(ScreenReject::Malformed("There is no Host header."));
        }
        (Some(target), _) => target.to_string(),
        (None, Some(header)) => header.to_string(),
        (None, None) if head.version == Version::HTTP_10 => local.to_string(),
        (None, None) => return Err(ScreenReject::Malformed("There is no Host header.")),
    };
    let value = HeaderValue::from_str(&host)
        .map_err(|_| ScreenReject::Malformed("The Host header names no host."))?;
    head.headers.insert(HOST, value);
    Ok(host)
}

fn authority(value: &HeaderValue) -> Result<Authority, ScreenReject> {
    let authority = Authority::try_from(value.as_bytes()).ok();
    authority
        .filter(is_host_and_port)
        .ok_or(ScreenReject::Malformed("The Host header names no host."))
}

/// Whether the body has no transfer coding except `chunked`, which hyper decodes. Any other coding would reach the guest
/// undecoded, under a head that does not mention it.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(only), None) => only
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

fn one_content_length(headers: &HeaderMap) -> Result<Option<u64>, ScreenReject> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    match (length, values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(ScreenReject::Malformed("Content-Length is not one number.")),
    }
}

fn normal_target(uri: &Uri) -> Result<Uri, ScreenReject> {
    let scheme_is_ours = uri
        .scheme()
        .is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    if !scheme_is_ours {
        return Err(ScreenReject::Malformed(
            "The request target is not an http address.",
        ));
    }
    // `OPTIONS *` asks about the server as a whole, and no route has this path. On HTTP/2 the target has an authority, which is
    // removed.
    if uri.path() == "*" {
        return Ok(Uri::from_static("*"));
    }
    let path = path::normalise(uri.path()).map_err(|bad| {
        ScreenReject::Malformed(match bad {
            path::BadPath::NotAbsolute => "The path does not start with a slash.",
            path::BadPath::ControlCharacter => "The path holds a control character.",
            path::BadPath::Backslash => "The path holds a backslash.",
            path::BadPath::PercentEncoding => {
                "The path holds a percent sign without two hexadecimal digits."
            }
        })
    })?;
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    let target = PathAndQuery::try_from(target)
        .map_err(|_| ScreenReject::Malformed("The request target is too long."))?;
    Ok(Uri::from(target))
}

/// RFC 9113, section 8.2.3: an HTTP/2 client may send each cookie in its own field, but other software expects a single field.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), ScreenReject> {
    let parts: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if parts.len() < 2 {
        return Ok(());
    }
    let joined = HeaderValue::from_bytes(&parts.join(&b"; "[..]));
    headers.insert(
        COOKIE,
        joined.map_err(|_| ScreenReject::Malformed("The Cookie header is not text."))?,
    );
    Ok(())
}

#[cfg(test)]
mod tests;
