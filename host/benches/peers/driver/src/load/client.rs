//! One client of the load: its connections and its running request.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use crate::response;
use crate::visitor::Visitor;

/// The number of bytes per read. Responses have about 400 bytes.
const READ_BYTES: usize = 16 * 1024;

/// The connections of all clients. A token is an index into them.
#[derive(Default)]
pub(super) struct Sockets {
    streams: Vec<(TcpStream, usize)>,
    buffer: Vec<u8>,
}

/// A client with at most one running request.
pub(super) struct Client {
    /// The connections, one to each of the client's hosts.
    sockets: Range<usize>,
    /// The client's visitors, which it uses in turn.
    pub(super) visitors: Vec<usize>,
    next: usize,
    current: usize,
    input: Vec<u8>,
    pub(super) sent_at: Instant,
}

impl Sockets {
    /// Connects a client to these hosts.
    pub(super) fn connect(
        &mut self,
        poll: &Poll,
        hosts: &[SocketAddr],
        client: usize,
    ) -> anyhow::Result<Range<usize>> {
        self.buffer.resize(READ_BYTES, 0);
        let begin = self.streams.len();
        for host in hosts {
            let stream = std::net::TcpStream::connect(host)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let token = Token(self.streams.len());
            poll.registry()
                .register(&mut stream, token, Interest::READABLE)?;
            self.streams.push((stream, client));
        }
        Ok(begin..self.streams.len())
    }

    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns the client of a connection.
    pub(super) fn client(&self, socket: usize) -> usize {
        self.streams[socket].1
    }
}

impl Client {
    pub(super) fn new(sockets: Range<usize>, visitors: Vec<usize>) -> Self {
        Self {
            sockets,
            visitors,
            next: 0,
            current: 0,
            input: Vec::new(),
            sent_at: Instant::now(),
        }
    }

    /// Returns the next visitor, or `None` if the client has no visitors.
    pub(super) fn next_visitor(&mut self) -> Option<usize> {
        let visitor = *self.visitors.get(self.next)?;
        self.next = (self.next + 1) % self.visitors.len();
        Some(visitor)
    }

    pub(super) fn send(
        &mut self,
        visitor: usize,
        visitors: &mut [Visitor],
        sockets: &mut Sockets,
    ) -> anyhow::Result<()> {
        self.current = visitor;
        self.sent_at = Instant::now();
        let n_sent = usize::try_from(visitors[visitor].n_sent())?;
        // Each request of a visitor goes to the next host, and the visitors start at different hosts.
        let socket = self.sockets.start + (visitor + n_sent) % self.sockets.len();
        let request = visitors[visitor].ask();
        let written = sockets.streams[socket].0.write(request);
        // The connection has no other running request, so the whole request fits into its send buffer.
        ensure!(
            written.context("sending a request")? == request.len(),
            "a request was cut"
        );
        Ok(())
    }

    /// Reads from the connection. Returns whether the response is complete and has been checked.
    ///
    /// Readiness is reported once per arrival of data. The next report comes with the response to the next request, so this
    /// function does not read past the end of a response.
    pub(super) fn receive(
        &mut self,
        socket: usize,
        visitors: &mut [Visitor],
        sockets: &mut Sockets,
    ) -> anyhow::Result<bool> {
        let Sockets { streams, buffer } = sockets;
        loop {
            match streams[socket].0.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(bytes) => self.input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading an answer"),
            }
            let Some(response) = response::parse(&self.input)? else {
                continue;
            };
            ensure!(
                response.bytes == self.input.len(),
                "a response was followed by unexpected bytes"
            );
            visitors[self.current].take(&response)?;
            self.input.clear();
            return Ok(true);
        }
    }
}
