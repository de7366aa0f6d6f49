//! A parser for HTTP/1.1 responses. Does not know sockets or sessions.

use std::borrow::Cow;

use anyhow::{Context as _, bail, ensure};

/// The largest number of header fields. Peers send about eight.
const HEADERS_MAX: usize = 32;

/// A complete response.
#[derive(Debug, PartialEq)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// `name=value` of the first `Set-Cookie`.
    pub cookie: Option<&'a [u8]>,
    /// The body, without its framing.
    pub body: Cow<'a, [u8]>,
    /// The number of bytes of the input that the response uses.
    pub bytes: usize,
}

/// Parses the first response of `input`. Returns `None` while it is incomplete.
///
/// # Errors
/// If the input is not HTTP, the body ends with the connection, or the response announces that the connection will be closed.
pub fn parse(input: &[u8]) -> anyhow::Result<Option<Response<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(input)? else {
        return Ok(None);
    };
    let mut length = None;
    let mut chunked = false;
    let mut cookie = None;
    for header in head.headers.iter() {
        match header.name {
            name if name.eq_ignore_ascii_case("content-length") => {
                let digits = std::str::from_utf8(header.value)?;
                length = Some(digits.parse::<usize>()?);
            }
            name if name.eq_ignore_ascii_case("transfer-encoding") => {
                chunked = header.value.eq_ignore_ascii_case(b"chunked");
            }
            name if name.eq_ignore_ascii_case("connection") => {
                let closes = header.value.eq_ignore_ascii_case(b"close");
                ensure!(!closes, "the server closes the connection");
            }
            name if name.eq_ignore_ascii_case("set-cookie") && cookie.is_none() => {
                cookie = header.value.split(|byte| *byte == b';').next();
            }
            _ => {}
        }
    }
    let status = head.code.context("a complete head has a status")?;
    let rest = &input[head_bytes..];
    let body = match length {
        _ if chunked => unchunk(rest)?.map(|(body, bytes)| (Cow::Owned(body), bytes)),
        Some(length) => rest.get(..length).map(|body| (Cow::Borrowed(body), length)),
        None => bail!("the response does not state its body's length"),
    };
    Ok(body.map(|(body, body_bytes)| Response {
        status,
        cookie,
        body,
        bytes: head_bytes + body_bytes,
    }))
}

/// Decodes a chunked body. Returns it with the number of bytes used, or `None` while it is incomplete.
fn unchunk(input: &[u8]) -> anyhow::Result<Option<(Vec<u8>, usize)>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let size = httparse::parse_chunk_size(&input[at..])
            .map_err(|_| anyhow::anyhow!("the response has a chunk without a size"))?;
        let httparse::Status::Complete((line_bytes, size)) = size else {
            return Ok(None);
        };
        let start = at + line_bytes;
        let end = start + usize::try_from(size)?;
        // Each chunk ends with CR LF. The last one is empty, and no peer sends trailers.
        let Some(chunk) = input.get(start..end + 2) else {
            return Ok(None);
        };
        let (chunk, line_end) = chunk.split_at(end - start);
        ensure!(line_end == b"\r\n", "a chunk of the answer is too long");
        if chunk.is_empty() {
            return Ok(Some((body, end + 2)));
        }
        body.extend_from_slice(chunk);
        at = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_with_a_length_is_read_once_it_is_whole() {
        let input =
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nset-cookie: a=b; Path=/\r\n\r\n12\nHTTP";
        let response = parse(input).unwrap().unwrap();
        assert_eq!(
            response,
            Response {
                status: 200,
                cookie: Some(b"a=b"),
                body: b"12\n".as_slice().into(),
                bytes: input.len() - 4,
            }
        );
        for bytes in 0..response.bytes {
            assert_eq!(parse(&input[..bytes]).unwrap(), None);
        }
    }

    #[test]
    fn a_chunked_response_is_read_once_it_is_whole() {
        let input = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
        let response = parse(input).unwrap().unwrap();
        assert_eq!(&*response.body, b"hello");
        assert_eq!(response.bytes, input.len());
        for bytes in 0..response.bytes {
            assert_eq!(parse(&input[..bytes]).unwrap(), None);
        }
    }

    #[test]
    fn a_response_that_ends_with_its_connection_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        let closes = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(parse(closes).is_err());
    }
}
