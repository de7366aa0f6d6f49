//! The client of the admin interface: sends one request over HTTP/1.1 for the command line.
//!
//! Handles connections and their errors. The requests themselves are created by `command`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;

use cloakroom_base::limits;

/// Largest response that is read, in bytes. The listing of a host with a thousand guests is smaller.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The size of the pieces in which a component is sent, in bytes. It is small enough to show progress.
const PIECE_BYTES: usize = 64 << 10;

/// The address of an admin interface, and the token for it.
pub(crate) struct AdminClient {
    /// The address to connect to, also sent as `Host`. For example `127.0.0.1:3001`.
    address: String,
    token: Option<SecretString>,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Error returned when the admin address cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTarget {
    #[error(
        "{url:?} is not the address of an admin interface; write http://127.0.0.1:3001, for example"
    )]
    Url { url: String },
    #[error(
        "the admin interface does not support TLS; use a tunnel (`ssh -L 3001:127.0.0.1:3001 HOST`) and call http://127.0.0.1:3001"
    )]
    Tls,
}

/// Error returned when a request gets no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminClientError {
    #[error(
        "cannot reach the admin interface at {address}: {error}\n    start the host with --admin {address} (or [admin] in its \
         configuration), or name its address: --admin http://HOST:PORT"
    )]
    Unreachable { address: String, error: io::Error },
    #[error(
        "the token contains a character that is not allowed in a header\n    write it as one line of text"
    )]
    Token,
    #[error(
        "the connection to {address} failed: {reason}\n    `cloakroom guests list` shows the result"
    )]
    BrokeOff { address: String, reason: String },
    #[error("{address} did not answer within {:?}", limits::ADMIN_ANSWER_TIMEOUT)]
    Timeout { address: String },
}

/// The response to a request.
#[derive(Debug)]
pub(crate) struct AdminResponse {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl AdminClient {
    /// Creates a client for the interface at `url`.
    pub(crate) fn new(url: &str, token: Option<SecretString>) -> Result<Self, BadTarget> {
        let bad = || BadTarget::Url {
            url: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(BadTarget::Tls),
            _ => return Err(bad()),
        }
        let authority = uri.authority().ok_or_else(bad)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !is_bare || authority.as_str().contains('@') {
            return Err(bad());
        }
        let port = authority.port_u16().unwrap_or(80);
        let address = format!("{}:{port}", authority.host());
        Ok(Self { address, token })
    }

    /// Sends a request, whose target is a path, and reads the complete response.
    ///
    /// Cancel safety: dropping the future closes the connection, and the host cancels an unfinished operation.
    pub(crate) async fn call(
        &self,
        mut request: Request<UploadBody>,
    ) -> Result<AdminResponse, AdminClientError> {
        self.put_headers(&mut request)?;
        let answer = tokio::time::timeout(limits::ADMIN_ANSWER_TIMEOUT, self.exchange(request));
        answer.await.unwrap_or_else(|_elapsed| {
            Err(AdminClientError::Timeout {
                address: self.address.clone(),
            })
        })
    }

    fn put_headers(&self, request: &mut Request<UploadBody>) -> Result<(), AdminClientError> {
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&self.address);
        headers.insert(HOST, host.expect("an address of a URL fits a header"));
        let agent = concat!("cloakroom/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(token) = &self.token {
            let value = format!("Bearer {}", token.expose_secret());
            let mut value = HeaderValue::from_str(&value).map_err(|_| AdminClientError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    async fn exchange(
        &self,
        request: Request<UploadBody>,
    ) -> Result<AdminResponse, AdminClientError> {
        let broke_off = |error: hyper::Error| AdminClientError::BrokeOff {
            address: self.address.clone(),
            reason: error.to_string(),
        };
        let stream = self.connect().await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broke_off)?;
        // The task ends with the sender. Errors of the connection are also returned by the request.
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(broke_off)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(|error| AdminClientError::BrokeOff {
            address: self.address.clone(),
            reason: error.to_string(),
        })?;
        drop(sender);
        connection.abort();
        Ok(AdminResponse {
            status,
            body: body.to_bytes(),
        })
    }

    async fn connect(&self) -> Result<TcpStream, AdminClientError> {
        let unreachable = |error| AdminClientError::Unreachable {
            address: self.address.clone(),
            error,
        };
        let connecting = TcpStream::connect(&self.address);
        match tokio::time::timeout(limits::ADMIN_CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(unreachable),
            Err(_elapsed) => Err(unreachable(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// A request body that counts the bytes sent.
#[derive(Debug, Default)]
pub(crate) struct UploadBody {
    rest: Bytes,
    sent: Arc<AtomicUsize>,
}

impl UploadBody {
    /// Creates a body from `bytes`. The number of bytes sent is added to `sent`.
    pub(crate) fn new(bytes: Bytes, sent: Arc<AtomicUsize>) -> Self {
        Self { rest: bytes, sent }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let upload = self.get_mut();
        if upload.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = upload.rest.len().min(PIECE_BYTES);
        let piece = upload.rest.split_to(length);
        upload.sent.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_plain_http_address() {
        let address = |url| AdminClient::new(url, None).map(|client| client.address);
        assert_eq!(address("http://127.0.0.1:3001").unwrap(), "127.0.0.1:3001");
        assert_eq!(address("http://[::1]:3001/").unwrap(), "[::1]:3001");
        assert_eq!(
            address("http://admin.internal").unwrap(),
            "admin.internal:80"
        );
        assert_eq!(address("https://127.0.0.1:3001"), Err(BadTarget::Tls));
        for url in [
            "127.0.0.1:3001",
            "localhost",
            "ftp://x",
            "http://x/guests",
            "http://user:pass@x",
            "",
        ] {
            assert!(matches!(address(url), Err(BadTarget::Url { .. })), "{url}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let client = AdminClient::new("http://x", Some("hunter2".into())).unwrap();
        assert!(!format!("{client:?}").contains("hunter2"));
    }
}
