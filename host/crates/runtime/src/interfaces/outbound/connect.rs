//! Opening of one connection: looks up the name, connects to a checked address, and does the TLS and HTTP/1 handshakes.
//! This module does not depend on requests, nor on the pool except for the permit that the socket holds.
//!
//! Only HTTP/1.1 leaves the host. With HTTP/2 the calls of several visitors would share one connection and its flow control.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::address::NonPublicKind;
use super::connection::OutboundConnection;
use super::grant::{Destination, NormalizedHost};
use super::pool::{ConnectionPermit, GuestPool};
use super::resolve::{self, ResolveError};
use cloakroom_base::limits::OUTBOUND_HEAD_BYTES_MAX;
use cloakroom_base::quota::ClientConnection;

/// Error returned when no connection could be opened.
#[derive(Debug)]
pub(crate) enum OutboundConnectError {
    /// The name has an address that is not public.
    NotPublic(NonPublicKind),
    /// Any other failure, as an error of the guest's interface.
    Failed(Error),
}

impl From<Error> for OutboundConnectError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Opens a connection, until `until` at the latest.
pub(crate) async fn open(
    pool: &GuestPool,
    source: ClientConnection,
    destination: &Destination,
    permit: ConnectionPermit,
    until: Instant,
) -> Result<OutboundConnection, OutboundConnectError> {
    let opened = open_without_limit(pool, source, destination, permit, until);
    let late = |_| OutboundConnectError::Failed(Error::ConnectionTimeout);
    tokio::time::timeout_at(until, opened).await.map_err(late)?
}

async fn open_without_limit(
    pool: &GuestPool,
    source: ClientConnection,
    destination: &Destination,
    permit: ConnectionPermit,
    until: Instant,
) -> Result<OutboundConnection, OutboundConnectError> {
    let addresses =
        resolve::addresses(pool.resolver(), pool.lookup_limits(), source, destination).await;
    let addresses = addresses.map_err(|error| match error {
        ResolveError::NotPublic(kind) => OutboundConnectError::NotPublic(kind),
        ResolveError::NotFound(error) => OutboundConnectError::Failed(not_found(&error)),
    })?;
    let tcp = connect(&addresses, until).await?;
    // Without this, a small request could wait for the acknowledgement of the previous one.
    tcp.set_nodelay(true).map_err(Error::Connect)?;
    let stream = if destination.tls {
        let connector = TlsConnector::from(pool.tls());
        let name = server_name(&destination.host)?;
        PlainOrTls::Tls(Box::new(
            connector.connect(name, tcp).await.map_err(Error::Tls)?,
        ))
    } else {
        PlainOrTls::Plain(tcp)
    };
    let socket = CountedSocket {
        stream,
        _permit: permit,
    };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(OUTBOUND_HEAD_BYTES_MAX);
    let (sender, connection) = builder
        .handshake(TokioIo::new(socket))
        .await
        .map_err(Error::from)?;
    Ok(OutboundConnection::new(sender, connection))
}

/// Tries one address after the other. Each gets an equal share of the remaining time, so that an address that does not
/// respond leaves time for the next.
async fn connect(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::ConnectionTimeout;
    for (tried, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => unconnected(error),
            Err(_elapsed) => Error::ConnectionTimeout,
        };
    }
    Err(last)
}

fn unconnected(error: io::Error) -> Error {
    const NO_DESCRIPTOR: [i32; 2] = [23, 24];
    let is_no_descriptor = error
        .raw_os_error()
        .is_some_and(|code| NO_DESCRIPTOR.contains(&code));
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        _ if is_no_descriptor => Error::ConnectionLimitReached,
        _ => Error::Connect(error),
    }
}

/// The resolver's message may reveal its configuration, so the guest gets only a general error.
fn not_found(error: &io::Error) -> Error {
    tracing::debug!(%error, "a name was not found");
    Error::DnsError {
        rcode: Some("address not available".to_owned()),
        info_code: None,
    }
}

fn server_name(host: &NormalizedHost) -> Result<ServerName<'static>, Error> {
    match host {
        NormalizedHost::Address(address) => Ok(ServerName::from(*address)),
        NormalizedHost::Name(name) => {
            let name = ServerName::try_from(name.clone());
            name.map_err(|_| Error::HttpRequestUriInvalid)
        }
    }
}

/// The bytes of a connection. Its permit is released when the descriptor is closed, however that happens.
struct CountedSocket {
    stream: PlainOrTls,
    _permit: ConnectionPermit,
}

enum PlainOrTls {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Calls a method on the plain or the TLS stream.
macro_rules! on_stream {
    ($socket:expr, $stream:ident => $call:expr) => {
        match &mut $socket.get_mut().stream {
            PlainOrTls::Plain($stream) => $call,
            PlainOrTls::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for CountedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for CountedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            PlainOrTls::Plain(stream) => stream.is_write_vectored(),
            PlainOrTls::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
