//! Opening a connection: for the request that waits for it, or beside it where another one becomes free sooner.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::{Conn, Pool};
use tokio::time::{timeout, timeout_at};

use super::super::error::{Class, Fault, Progress};
use super::super::settle::fault_of;
use super::{Probe, Seat, ServerPool, Times};

/// Time after which a request does not wait for its new connection alone, where others are there: the first that becomes free is
/// taken, and the new one is opened beside.
const OPEN_STALL: Duration = Duration::from_millis(100);

/// What part of its time a connect must have had before its failure to answer says something of the server.
const FAIR_SHARE: u32 = 2;

/// The end of a try to open a connection.
pub(super) enum Opening {
    Opened(Conn, Seat),
    /// Other connections are there to wait for; the reason, where the server refused this one.
    Elsewhere(Option<Fault>),
}

impl ServerPool {
    /// Opens a connection for this place, or finds the one that it has.
    ///
    /// Where servers before this one have used up the time, the connection is opened beside for the next request: a connect that was
    /// cut short is no reason to leave a server.
    pub(super) async fn open(
        self: &Arc<Self>,
        mut seat: Seat,
        probe: Probe<'_>,
        times: Times,
        deadline: Instant,
    ) -> Result<Opening, Fault> {
        let now = Instant::now();
        let until = deadline.min(now + times.connect);
        let patience = match probe.0.is_none() && seat.has_others() {
            true => until.min(now + OPEN_STALL),
            false => until,
        };
        let is_cut_short = until.saturating_duration_since(now) < times.connect / FAIR_SHARE;
        let mut opening = Box::pin(connect(seat.pool()));
        let outcome = match timeout_at(patience.into(), &mut opening).await {
            Ok(outcome) => outcome,
            Err(_) if patience < until || is_cut_short => {
                tokio::spawn(open_beside(seat, opening, times.connect));
                return match is_cut_short && patience == until {
                    true => Err(self.not_asked()),
                    false => Ok(Opening::Elsewhere(None)),
                };
            }
            Err(_) => Err(Fault::timed_out(Progress::NotSent, now.elapsed())),
        };
        match outcome {
            Ok(connection) => {
                self.opened(&mut seat, probe);
                Ok(Opening::Opened(connection, seat))
            }
            Err(fault) => {
                let fault = fault.at(&self.name);
                match self.refused(seat, &fault, probe) {
                    true => Ok(Opening::Elsewhere(Some(fault))),
                    false => Err(fault),
                }
            }
        }
    }

    fn opened(&self, seat: &mut Seat, mut probe: Probe<'_>) {
        // Outside of a probe the connection may be an old one, which proves nothing.
        if probe.0.take().is_some() {
            let mut state = self.lock();
            state.circuit.connected(Instant::now());
            seat.set_probe(state.circuit.is_probed());
        }
        if !seat.fill() {
            return;
        }
        let server = self.learned.server();
        let mut state = self.lock();
        let is_whole = state.size.granted(Instant::now());
        let is_news = server.is_some() && state.told != server;
        if is_news {
            state.told.clone_from(&server);
        }
        drop(state);
        if is_whole {
            tracing::info!(
                host = self.name,
                "the session store's host gives as many connections as are wanted again"
            );
        }
        if let Some(server) = server.filter(|_| is_news) {
            tracing::info!(host = self.name, %server, "connected to a server of the session store");
        }
    }

    fn not_asked(&self) -> Fault {
        let detail = format!("{}: no time was left to connect to it", self.name);
        Fault::new(Class::Unavailable, Progress::NotSent, detail)
    }

    /// The server gave no connection; true if there are others to wait for. If not, or if the server said that it takes no writes, it
    /// is left alone.
    fn refused(&self, seat: Seat, fault: &Fault, probe: Probe<'_>) -> bool {
        let generation = seat.generation();
        let has_others = fault.class != Class::HostUnfit && seat.retire(fault);
        if !has_others {
            self.give_up(generation, fault, probe);
        }
        has_others
    }
}

/// A connection, at the second try where the first was cut: one link that breaks is no server that is gone.
async fn connect(pool: Pool) -> Result<Conn, Fault> {
    match pool.get_conn().await.map_err(|e| fault_of(&e)) {
        Err(first) if first.class == Class::LinkLost => {
            pool.get_conn().await.map_err(|e| fault_of(&e))
        }
        outcome => outcome,
    }
}

/// Opens a connection that no request waits for any more; it is free for the next one.
async fn open_beside(
    mut seat: Seat,
    opening: impl Future<Output = Result<Conn, Fault>> + Send,
    time_max: Duration,
) {
    let server = Arc::clone(seat.server());
    let outcome = timeout(time_max, opening).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Fault::timed_out(Progress::NotSent, time_max)));
    match outcome {
        Ok(connection) => {
            server.opened(&mut seat, Probe(None));
            // Before its place is free: the next one finds it there.
            drop(connection);
        }
        Err(fault) => {
            server.refused(seat, &fault.at(&server.name), Probe(None));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::store::mysql::options::{Host, Options};

    #[tokio::test]
    async fn a_server_that_no_time_was_left_for_is_not_blamed() {
        // Its backlog takes connections, and nobody answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host {
            name: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
        };
        let options = Options::new(vec![host], "app".to_owned(), "app".to_owned());
        let server = ServerPool::new(0, "silent".to_owned(), &options, options.hosts.first());
        let connect = Duration::from_millis(500);
        let times = Times {
            acquire: connect,
            connect,
            statement: connect,
        };
        let ask = async |time: Duration| server.link(times, Instant::now() + time).await.err();

        let fault = ask(Duration::from_millis(50)).await.unwrap();
        assert!(
            fault.detail.contains("no time was left"),
            "{}",
            fault.detail
        );
        assert_eq!(fault.class, Class::Unavailable);
        assert!(server.refusal().is_none());
        assert_eq!(server.usage().most, options.connection_limit);

        let fault = ask(connect * 2).await.unwrap();
        assert_eq!(fault.class, Class::TimedOut);
        assert!(server.refusal().is_some());
    }
}
