//! Where all bad input stops: behind this, a request has one host, one path in one spelling, one body length, no header that is
//! about the connection, and not our cookie.
//!
//! hyper has refused what is no HTTP before (and closes a connection whose framing is ambiguous); this refuses what is HTTP and
//! still could be read in two ways.

mod host;

use std::net::{IpAddr, SocketAddr};

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use self::host::is_host_and_port;
use super::headers::{self, ProxyTrust};
use crate::cookie::{self, Presented};
use crate::limits::REQUEST_METHOD_BYTES_MAX;
use crate::route::path;

/// What bounds requests and reads their heads.
#[derive(Clone, Debug)]
pub struct ScreenOptions {
    /// The name of our cookie.
    pub cookie_name: String,
    /// Whose word about the visitor is taken.
    pub proxy_trust: ProxyTrust,
    /// Largest head, as the sum of names and values, in bytes.
    pub head_bytes_max: usize,
    /// Most header fields.
    pub headers_max: usize,
    /// Longest path and query, in bytes.
    pub target_bytes_max: usize,
}

/// What the screen has found out about a request that passed it.
#[derive(Debug)]
pub(super) struct Screened {
    /// Host and port the client asked for; never empty.
    pub(super) host: String,
    /// How the visitor reached us, or the proxy in front.
    pub(super) scheme: Scheme,
    /// The visitor's address: the peer's, or what a trusted proxy says.
    pub(super) client: IpAddr,
    /// The head as it came, our cookie and all.
    pub(super) head_size: HeadSize,
    /// What `Content-Length` says.
    pub(super) content_length: Option<u64>,
    /// The values of our cookie.
    pub(super) presented: Presented,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reject {
    /// 400: what is wrong, for the client.
    Malformed(&'static str),
    /// 414.
    TargetTooLong,
    /// 431.
    HeadTooLarge,
    /// 501: no guest can be asked this.
    MethodNotImplemented,
    /// 501: a transfer coding that nothing here undoes (RFC 9112, section 6.1).
    CodingNotImplemented,
}

/// Checks a request's head and rewrites it into the one form that guests see: `uri` is the normalised path and the query, `Host`
/// says the authority.
pub(super) fn screen(
    head: &mut Parts,
    peer: IpAddr,
    local: SocketAddr,
    options: &ScreenOptions,
) -> Result<Screened, Reject> {
    // CONNECT asks for a tunnel, TRACE would show a script the cookies it must not see.
    let is_refused = head.method == Method::CONNECT || head.method == Method::TRACE;
    if is_refused || head.method.as_str().len() > REQUEST_METHOD_BYTES_MAX {
        return Err(Reject::MethodNotImplemented);
    }
    if !is_plainly_framed(&head.headers) {
        return Err(Reject::CodingNotImplemented);
    }
    let target_bytes = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target_bytes > options.target_bytes_max {
        return Err(Reject::TargetTooLong);
    }
    let head_size = HeadSize::of(&head.headers);
    if head_size.is_above(Some(options.head_bytes_max), Some(options.headers_max)) {
        return Err(Reject::HeadTooLarge);
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
    let presented = cookie::take_from(&mut head.headers, &options.cookie_name);
    Ok(Screened {
        host,
        scheme: forwarded.scheme,
        client: forwarded.client,
        head_size,
        content_length,
        presented,
    })
}

/// How large a head is. hyper counts for HTTP/1.1 and h2 for HTTP/2, each in its own way: this counts alike for both.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadSize {
    /// Names and values, in bytes.
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

    /// Whether it passes one of two limits, where they are set.
    pub(super) fn is_above(self, bytes_max: Option<usize>, fields_max: Option<usize>) -> bool {
        bytes_max.is_some_and(|max| self.bytes > max)
            || fields_max.is_some_and(|max| self.fields > max)
    }
}

/// The one authority of a request (RFC 9112, section 3.2; RFC 9113, section 8.3.1), which also becomes its `Host`.
fn one_host(head: &mut Parts, local: SocketAddr) -> Result<String, Reject> {
    let in_header = {
        let mut values = head.headers.get_all(HOST).iter();
        let first = values.next().map(authority).transpose()?;
        if values.next().is_some() {
            return Err(Reject::Malformed("There is more than one Host header."));
        }
        first
    };
    let in_target = head.uri.authority().cloned();
    if in_target
        .as_ref()
        .is_some_and(|target| !is_host_and_port(target))
    {
        return Err(Reject::Malformed("The request target names no host."));
    }
    let host = match (in_target, in_header) {
        (Some(target), Some(header)) if head.version == Version::HTTP_2 && target != header => {
            return Err(Reject::Malformed("Host and :authority differ."));
        }
        // RFC 9112, section 3.2.2: an absolute target replaces the Host header, which must be there all the same.
        (Some(_), None) if head.version == Version::HTTP_11 => {
            return Err(Reject::Malformed("There is no Host header."));
        }
        (Some(target), _) => target.to_string(),
        (None, Some(header)) => header.to_string(),
        (None, None) if head.version == Version::HTTP_10 => local.to_string(),
        (None, None) => return Err(Reject::Malformed("There is no Host header.")),
    };
    let value = HeaderValue::from_str(&host)
        .map_err(|_| Reject::Malformed("The Host header names no host."))?;
    head.headers.insert(HOST, value);
    Ok(host)
}

fn authority(value: &HeaderValue) -> Result<Authority, Reject> {
    let authority = Authority::try_from(value.as_bytes()).ok();
    authority
        .filter(is_host_and_port)
        .ok_or(Reject::Malformed("The Host header names no host."))
}

/// Whether the body has no transfer coding but `chunked`, which hyper undoes. Other codings before it would reach the guest as
/// they are, under a head that does not say so.
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

fn one_content_length(headers: &HeaderMap) -> Result<Option<u64>, Reject> {
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
        _ => Err(Reject::Malformed("Content-Length is not one number.")),
    }
}

fn normal_target(uri: &Uri) -> Result<Uri, Reject> {
    let scheme_is_ours = uri
        .scheme()
        .is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    if !scheme_is_ours {
        return Err(Reject::Malformed("The request target is no http address."));
    }
    // `OPTIONS *` asks about the server as a whole: no route is named so. On HTTP/2 the target has an authority, which goes.
    if uri.path() == "*" {
        return Ok(Uri::from_static("*"));
    }
    let path = path::normalise(uri.path()).map_err(|bad| {
        Reject::Malformed(match bad {
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
        .map_err(|_| Reject::Malformed("The request target is too long."))?;
    Ok(Uri::from(target))
}

/// RFC 9113, section 8.2.3: HTTP/2 may send each cookie in a field of its own; everybody else expects one.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Reject> {
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return Ok(());
    }
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    headers.insert(
        COOKIE,
        joined.map_err(|_| Reject::Malformed("The Cookie header is not text."))?,
    );
    Ok(())
}

#[cfg(test)]
mod tests;
