//! HTTP/2 by hand: a client that sends the frames of a test in the test's order and at its pace.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types of RFC 9113, section 6.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The identifier of the setting SETTINGS_INITIAL_WINDOW_SIZE.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type, one of [`kind`].
    pub kind: u8,
    /// The flags.
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Returns whether the frame ends its stream.
    pub fn is_end(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    /// Returns the error code of a RST_STREAM or GOAWAY.
    pub fn error_code(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        let bytes = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// Returns the status of a HEADERS frame, or `None` for codes outside of HPACK's static table.
    pub fn status(&self) -> Option<u16> {
        if self.kind != kind::HEADERS {
            return None;
        }
        match self.payload.first()? {
            0x88 => Some(200),
            0x89 => Some(204),
            0x8a => Some(206),
            0x8b => Some(304),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            _ => None,
        }
    }
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub struct RawH2 {
    stream: TcpStream,
}

/// Opens a TCP connection to `to`, from the local address `from` if it is given. Every address of 127.0.0.0/8 works on loopback.
///
/// # Errors
/// If the system refuses the connection.
pub async fn connect_from(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

impl RawH2 {
    /// Connects and sends the preface and these settings.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn connect(
        to: SocketAddr,
        from: Option<IpAddr>,
        settings: &[(u16, u32)],
    ) -> io::Result<Self> {
        let mut stream = connect_from(to, from).await?;
        stream.set_nodelay(true)?;
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(&encode(kind::SETTINGS, 0, 0, &payload));
        stream.write_all(&bytes).await?;
        Ok(Self { stream })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        let bytes = encode(kind, flags, stream, payload);
        self.stream.write_all(&bytes).await
    }

    /// Sends the head of a request on `stream`, which must be odd and larger than the streams before it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn request(
        &mut self,
        stream: u32,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        is_whole: bool,
    ) -> io::Result<()> {
        let block = header_block(method, path, fields);
        let flags = END_HEADERS | if is_whole { END_STREAM } else { 0 };
        self.send(kind::HEADERS, flags, stream, &block).await
    }

    /// Sends a piece of a request's body.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn data(&mut self, stream: u32, bytes: &[u8], is_last: bool) -> io::Result<()> {
        self.send(kind::DATA, u8::from(is_last), stream, bytes)
            .await
    }

    /// Lets the host send this many more bytes on `stream`; 0 is the connection.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn open_window(&mut self, stream: u32, bytes: u32) -> io::Result<()> {
        self.send(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
            .await
    }

    /// Returns the next frame. Answers PING and SETTINGS frames instead of returning them.
    ///
    /// # Errors
    /// `UnexpectedEof` when the host has closed the connection, and other errors of the connection.
    pub async fn receive(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
            let frame = Frame {
                kind: head[3],
                flags: head[4],
                stream,
                payload,
            };
            match frame.kind {
                kind::PING if frame.flags & ACK == 0 => {
                    self.send(kind::PING, ACK, 0, &frame.payload).await?;
                }
                kind::SETTINGS if frame.flags & ACK == 0 => {
                    self.send(kind::SETTINGS, ACK, 0, &[]).await?;
                }
                kind::PING | kind::SETTINGS => {}
                _ => return Ok(frame),
            }
        }
    }

    /// Answers PINGs and drops all other frames until the host closes the connection. Run it in a separate task.
    pub async fn linger(mut self) {
        while self.receive().await.is_ok() {}
    }
}

fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns a header block of literal fields without indexing and without Huffman codes (RFC 7541, section 6.2.2).
fn header_block(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a.test"),
    ];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Appends an integer with a prefix of 7 bits (RFC 7541, section 5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}
