//! The load generator: one thread with keep-alive connections. Each connection has its own part of the sessions.
//!
//! A client sends its next request as soon as it has a response, and uses its sessions in turn. A session therefore never has two
//! concurrent requests, unless that is requested. Most peers lose updates under concurrent requests, so their wrong counts would
//! prove nothing. This module knows addresses and visitors. It does not know processes.

mod client;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use mio::{Events, Poll, Token};

use self::client::{Client, Sockets};
use crate::visitor::{Answers, FaultCount, Faults, Visitor};

/// The longest time without any response. After it, the contender has stalled.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The amount of load.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The number of clients, each with one running request. With one host, each client is one keep-alive connection.
    pub connections: usize,
    /// The number of sessions of all clients.
    pub sessions: usize,
}

/// The assignment of a session's requests to hosts, and whether they wait for each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Visits {
    /// A session belongs to one client, and a client uses one host.
    Sticky,
    /// A session belongs to one client, and each of its requests goes to a different host than the previous one.
    Roaming,
    /// All clients use all sessions concurrently, and each client uses one host.
    AtOnce,
}

/// The target of a load.
#[derive(Clone, Debug)]
pub struct Target {
    /// The hosts.
    pub hosts: Vec<SocketAddr>,
    /// The paths, which are distributed over the sessions.
    pub paths: Vec<String>,
    /// The kind of the responses.
    pub answers: Answers,
    /// The assignment of sessions to clients and hosts.
    pub visits: Visits,
    /// The handling of wrong responses.
    pub faults: Faults,
}

/// Connections that generate load.
pub struct Load {
    poll: Poll,
    sockets: Sockets,
    clients: Vec<Client>,
    visitors: Vec<Visitor>,
}

/// The results of a time under load.
#[derive(Debug, Default)]
pub struct Answered {
    /// The latencies of all responses within the time, in microseconds.
    pub latencies: Vec<u32>,
    /// The latencies of the responses to requests that were still running at the end of the time, in microseconds.
    pub late: Vec<u32>,
}

/// A response that a client has just received.
#[derive(Clone, Copy, Debug)]
struct Round {
    sent_at: Instant,
    now: Instant,
}

impl Target {
    /// Returns the target of all contenders: one host with one path.
    pub fn one(host: SocketAddr, answers: Answers) -> Self {
        Self {
            hosts: vec![host],
            paths: vec!["/session".to_owned()],
            answers,
            visits: Visits::Sticky,
            faults: Faults::End,
        }
    }
}

impl Load {
    /// Connects. This creates no sessions.
    pub fn connect(target: &Target, size: Size) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut sockets = Sockets::default();
        let mut clients = Vec::with_capacity(size.connections);
        for index in 0..size.connections {
            let visitors: Vec<_> = match target.visits {
                Visits::Sticky | Visits::Roaming => {
                    (index..size.sessions).step_by(size.connections).collect()
                }
                Visits::AtOnce => (0..size.sessions).collect(),
            };
            let home = target.hosts[index % target.hosts.len()];
            let hosts = match target.visits {
                Visits::Sticky | Visits::AtOnce => &[home],
                Visits::Roaming => &target.hosts[..],
            };
            let range = sockets.connect(&poll, hosts, index)?;
            clients.push(Client::new(range, visitors));
        }
        let visitor = |index: usize| {
            let path = &target.paths[index % target.paths.len()];
            Visitor::new(target.hosts[0], path, target.answers, target.faults)
        };
        Ok(Self {
            poll,
            sockets,
            clients,
            visitors: (0..size.sessions).map(visitor).collect(),
        })
    }

    /// Uses every session once. The first call creates all sessions, a later call checks their counts.
    pub fn visit_all(&mut self) -> anyhow::Result<()> {
        let mut ahead = vec![VecDeque::new(); self.clients.len()];
        let mut is_visited = vec![false; self.visitors.len()];
        for (client, ahead) in self.clients.iter().zip(&mut ahead) {
            for visitor in &client.visitors {
                if !std::mem::replace(&mut is_visited[*visitor], true) {
                    ahead.push_back(*visitor);
                }
            }
        }
        self.drive(|client, _, _| ahead[client].pop_front())?;
        let n_broken = self.visitors.iter().filter(|v| !v.is_whole()).count();
        ensure!(n_broken == 0, "{n_broken} sessions lack a count");
        Ok(())
    }

    /// Generates load for this time, and then waits for the responses to the running requests.
    pub fn run_for(&mut self, time: Duration) -> anyhow::Result<Answered> {
        let ends_at = Instant::now() + time;
        let mut answered = Answered::default();
        self.drive(|_, client, round| {
            if let Some(Round { sent_at, now }) = round {
                let latency = (now - sent_at).as_micros();
                let latency = u32::try_from(latency).unwrap_or(u32::MAX);
                if now > ends_at {
                    answered.late.push(latency);
                    return None;
                }
                answered.latencies.push(latency);
            }
            client.next_visitor()
        })?;
        Ok(answered)
    }

    /// Returns the sessions.
    pub fn visitors(&self) -> &[Visitor] {
        &self.visitors
    }

    /// Returns the total number of requests sent.
    pub fn n_sent(&self) -> u64 {
        self.visitors.iter().map(Visitor::n_sent).sum()
    }

    /// Returns the wrong responses so far, if they are counted.
    pub fn fault_count(&self) -> FaultCount {
        let mut all = FaultCount::default();
        for visitor in &self.visitors {
            let count = visitor.fault_count();
            all.n_refused += count.n_refused;
            all.n_lost += count.n_lost;
            all.first = all.first.or(count.first);
        }
        all
    }

    /// Sends a request for every client. After each response, `next` returns the visitor of the client's next request, or ends
    /// the client.
    fn drive(
        &mut self,
        mut next: impl FnMut(usize, &mut Client, Option<Round>) -> Option<usize>,
    ) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(self.sockets.len().max(1));
        let mut under_way = 0;
        for (index, client) in self.clients.iter_mut().enumerate() {
            if let Some(visitor) = next(index, client, None) {
                client.send(visitor, &mut self.visitors, &mut self.sockets)?;
                under_way += 1;
            }
        }
        while under_way > 0 {
            match self.poll.poll(&mut events, Some(SILENCE_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            ensure!(!events.is_empty(), "no answer for {SILENCE_MAX:?}");
            for event in &events {
                let Token(socket) = event.token();
                let index = self.sockets.client(socket);
                let client = &mut self.clients[index];
                if !client.receive(socket, &mut self.visitors, &mut self.sockets)? {
                    continue;
                }
                let round = Round {
                    sent_at: client.sent_at,
                    now: Instant::now(),
                };
                match next(index, client, Some(round)) {
                    Some(visitor) => client.send(visitor, &mut self.visitors, &mut self.sockets)?,
                    None => under_way -= 1,
                }
            }
        }
        Ok(())
    }
}
