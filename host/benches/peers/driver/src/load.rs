//! The load generator: one thread, keep-alive connections, each with its own share of the sessions.
//!
//! A client sends its next request as soon as it has an answer, for one of its sessions after the other. So no session
//! has two requests at once, unless that is asked for: where they would lose updates, most peers do, and wrong counts
//! would say nothing. Knows addresses and visitors; knows nothing of processes.

mod client;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use mio::{Events, Poll, Token};

use self::client::{Client, Sockets};
use crate::visitor::{Answers, FaultCount, Faults, Visitor};

/// Longest time in which not one answer comes; over it the contender has stalled.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How much load there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Clients, each with one request under way: with one host these are its keep-alive connections.
    pub connections: usize,
    /// Sessions, over all clients.
    pub sessions: usize,
}

/// Which host a session's visits go to, and whether they wait for each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Visits {
    /// A session is one client's, and a client has one host.
    Sticky,
    /// A session is one client's, and each of its visits goes to another host than the one before.
    Roaming,
    /// All clients visit all sessions, at the same time, each client on one host.
    AtOnce,
}

/// Where a load goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The hosts.
    pub hosts: Vec<SocketAddr>,
    /// The paths, which the sessions share out among them.
    pub paths: Vec<String>,
    /// What they answer.
    pub answers: Answers,
    /// Who visits whom.
    pub visits: Visits,
    /// What becomes of wrong answers.
    pub faults: Faults,
}

/// Connections under load.
pub struct Load {
    poll: Poll,
    sockets: Sockets,
    clients: Vec<Client>,
    visitors: Vec<Visitor>,
}

/// What a time under load gave.
#[derive(Debug, Default)]
pub struct Answered {
    /// From request to answer, in microseconds, of all answers within the time.
    pub latencies: Vec<u32>,
    /// The same of the answers to what was under way when the time ended.
    pub late: Vec<u32>,
}

/// An answer that a client has just had.
#[derive(Clone, Copy, Debug)]
struct Round {
    sent_at: Instant,
    now: Instant,
}

impl Target {
    /// One host with one path, as all contenders have.
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
    /// Connects. No session is there yet.
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

    /// Every session once: the first time makes them all, another time shows that each is where it must be.
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

    /// Load for so long, and until the answers to what is then under way are there.
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

    /// The sessions.
    pub fn visitors(&self) -> &[Visitor] {
        &self.visitors
    }

    /// How many requests were sent in all.
    pub fn n_sent(&self) -> u64 {
        self.visitors.iter().map(Visitor::n_sent).sum()
    }

    /// The wrong answers so far, where they are counted.
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

    /// Sends for all clients, and again for each for as long as `next` gives it a visitor after an answer.
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
