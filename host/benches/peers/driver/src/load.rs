//! The load generator: one thread, keep-alive connections, each with its own share of the sessions.
//!
//! A connection sends its next request as soon as it has an answer, for one of its sessions after the other. So no
//! session has two requests at once: where they would lose updates, most peers do, and wrong counts would say nothing.
//! Knows addresses and visitors; knows nothing of processes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::response;
use crate::visitor::{Answers, Visitor};

/// Longest time in which not one answer comes; over it the contender has stalled.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How much is read at once; answers have some 400 bytes.
const READ_BYTES: usize = 16 * 1024;

/// How much load there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Keep-alive connections, each with one request under way.
    pub connections: usize,
    /// Sessions, over all connections.
    pub sessions: usize,
}

/// Connections under load.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

/// What a time under load gave.
#[derive(Debug, Default)]
pub struct Answered {
    /// From request to answer, in microseconds, of all answers within the time.
    pub latencies: Vec<u32>,
    /// The answers to what was under way when the time ended.
    pub late: usize,
}

struct Connection {
    stream: TcpStream,
    visitors: Vec<Visitor>,
    current: usize,
    input: Vec<u8>,
    sent_at: Instant,
}

impl Load {
    /// Connects. No session is there yet.
    pub fn connect(address: SocketAddr, answers: Answers, size: Size) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(size.connections);
        for index in 0..size.connections {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)?;
            let visitors = (index..size.sessions).step_by(size.connections);
            connections.push(Connection {
                stream,
                visitors: visitors.map(|_| Visitor::new(address, answers)).collect(),
                current: 0,
                input: Vec::with_capacity(READ_BYTES),
                sent_at: Instant::now(),
            });
        }
        let buffer = vec![0; READ_BYTES];
        Ok(Self {
            poll,
            connections,
            buffer,
        })
    }

    /// Every session once: the first time makes them all, another time shows that each is where it must be.
    pub fn visit_all(&mut self) -> anyhow::Result<()> {
        let mut left: Vec<_> = (self.connections.iter())
            .map(|connection| connection.visitors.len())
            .collect();
        self.drive(|index, _, _| {
            left[index] -= 1;
            left[index] > 0
        })
    }

    /// Load for so long, and until the answers to what is then under way are there.
    pub fn run_for(&mut self, time: Duration) -> anyhow::Result<Answered> {
        let ends_at = Instant::now() + time;
        let mut answered = Answered::default();
        self.drive(|_, sent_at, now| {
            let is_late = now > ends_at;
            if is_late {
                answered.late += 1;
            } else {
                let latency = (now - sent_at).as_micros();
                let latency = u32::try_from(latency).unwrap_or(u32::MAX);
                answered.latencies.push(latency);
            }
            !is_late
        })?;
        Ok(answered)
    }

    /// Sends on all connections, and again on each for as long as `goes_on` says after an answer.
    fn drive(
        &mut self,
        mut goes_on: impl FnMut(usize, Instant, Instant) -> bool,
    ) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(self.connections.len());
        let mut under_way = 0;
        for connection in &mut self.connections {
            connection.send(Instant::now())?;
            under_way += 1;
        }
        while under_way > 0 {
            match self.poll.poll(&mut events, Some(SILENCE_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            ensure!(!events.is_empty(), "no answer for {SILENCE_MAX:?}");
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                if !connection.receive(&mut self.buffer)? {
                    continue;
                }
                let now = Instant::now();
                if goes_on(event.token().0, connection.sent_at, now) {
                    connection.send(now)?;
                } else {
                    under_way -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Connection {
    fn send(&mut self, now: Instant) -> anyhow::Result<()> {
        self.sent_at = now;
        let request = &self.visitors[self.current].request;
        let written = self.stream.write(request).context("sending a request")?;
        // The connection has nothing else under way: its buffer holds a request.
        ensure!(written == request.len(), "a request was cut");
        Ok(())
    }

    /// Whether the answer is there; then it has been checked, and the next session's turn has come.
    ///
    /// Readiness is told once. It comes again with the answer to the next request, so nothing is read after an answer.
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        loop {
            match self.stream.read(buffer) {
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
                "an answer was followed by what nobody asked for"
            );
            self.visitors[self.current].take(&response)?;
            self.current = (self.current + 1) % self.visitors.len();
            self.input.clear();
            return Ok(true);
        }
    }
}
