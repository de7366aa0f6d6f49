//! Opens connections, either for the request that waits or in the background while the request takes a connection that
//! becomes free sooner.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::{Conn, Pool};
use tokio::time::{timeout, timeout_at};

use super::super::error::{StatementError, StatementErrorClass, StatementProgress};
use super::super::setup::fault_of;
use super::{PoolPermit, PoolTimeouts, ProbeGuard, ServerPool};

/// Time after which a request no longer waits only for its new connection, if other connections exist. The request then
/// takes the first connection that becomes free, and the new one is opened in the background.
const OPEN_STALL: Duration = Duration::from_millis(100);

/// Divisor of the connect timeout. If an attempt had less than this fraction of the timeout and got no answer, that
/// proves nothing about the server.
const FAIR_SHARE: u32 = 2;

/// The result of an attempt to open a connection.
pub(crate) enum ConnectionAttempt {
    Opened(Conn, PoolPermit),
    /// The request should wait for another connection. Contains the reason if the server refused this one.
    Elsewhere(Option<StatementError>),
}

impl ServerPool {
    /// Opens a connection for this slot, or returns the one that it has.
    ///
    /// If earlier servers of the list have used up the time, the connection is opened in the background for the next
    /// request. An attempt that was cut short is not a reason to leave a server.
    pub(crate) async fn open(
        self: &Arc<Self>,
        mut permit: PoolPermit,
        probe: ProbeGuard<'_>,
        times: PoolTimeouts,
        deadline: Instant,
    ) -> Result<ConnectionAttempt, StatementError> {
        let now = Instant::now();
        let until = deadline.min(now + times.connect);
        let wait_until = match probe.0.is_none() && permit.has_others() {
            true => until.min(now + OPEN_STALL),
            false => until,
        };
        let is_cut_short = until.saturating_duration_since(now) < times.connect / FAIR_SHARE;
        let mut opening = Box::pin(connect(permit.pool()));
        let outcome = match timeout_at(wait_until.into(), &mut opening).await {
            Ok(outcome) => outcome,
            Err(_) if wait_until < until || is_cut_short => {
                tokio::spawn(open_in_background(permit, opening, times.connect));
                return match is_cut_short && wait_until == until {
                    true => Err(self.not_asked()),
                    false => Ok(ConnectionAttempt::Elsewhere(None)),
                };
            }
            Err(_) => Err(StatementError::timed_out(
                StatementProgress::NotSent,
                now.elapsed(),
            )),
        };
        match outcome {
            Ok(connection) => {
                self.opened(&mut permit, probe);
                Ok(ConnectionAttempt::Opened(connection, permit))
            }
            Err(fault) => {
                let fault = fault.at(&self.name);
                match self.refused(permit, &fault, probe) {
                    true => Ok(ConnectionAttempt::Elsewhere(Some(fault))),
                    false => Err(fault),
                }
            }
        }
    }

    fn opened(&self, permit: &mut PoolPermit, mut probe: ProbeGuard<'_>) {
        // Outside a probe, the connection may be an old one, which proves nothing.
        if probe.0.take().is_some() {
            let mut state = self.state.lock();
            state.circuit.connected(Instant::now());
            permit.set_probe(state.circuit.is_probed());
        }
        if !permit.fill() {
            return;
        }
        let server = self.learned.server();
        let mut state = self.state.lock();
        let is_whole = state.size.granted(Instant::now());
        let is_new = server.is_some() && state.logged != server;
        if is_new {
            state.logged.clone_from(&server);
        }
        drop(state);
        if is_whole {
            tracing::info!(
                host = self.name,
                "the session store's host gives all configured connections again"
            );
        }
        if let Some(server) = server.filter(|_| is_new) {
            tracing::info!(host = self.name, %server, "connected to a server of the session store");
        }
    }

    fn not_asked(&self) -> StatementError {
        let detail = format!("{}: no time was left to connect to it", self.name);
        StatementError::new(
            StatementErrorClass::Unavailable,
            StatementProgress::NotSent,
            detail,
        )
    }

    /// Handles a refused connection. Returns true if there are other connections to wait for. If there are none, or if
    /// the server reports that it takes no writes, the server is not used for a while.
    fn refused(&self, permit: PoolPermit, fault: &StatementError, probe: ProbeGuard<'_>) -> bool {
        let generation = permit.generation();
        let has_others = fault.class != StatementErrorClass::ServerUnfit && permit.retire(fault);
        if !has_others {
            self.give_up(generation, fault, probe);
        }
        has_others
    }
}

/// Opens a connection. Retries once if the first attempt was cut off: one broken connection does not mean that the server is
/// down.
async fn connect(pool: Pool) -> Result<Conn, StatementError> {
    match pool.get_conn().await.map_err(|e| fault_of(&e)) {
        Err(first) if first.class == StatementErrorClass::ConnectionLost => {
            pool.get_conn().await.map_err(|e| fault_of(&e))
        }
        outcome => outcome,
    }
}

/// Opens a connection for which no request waits any more. The next request can use it.
async fn open_in_background(
    mut permit: PoolPermit,
    opening: impl Future<Output = Result<Conn, StatementError>> + Send,
    time_max: Duration,
) {
    let server = Arc::clone(permit.server());
    let outcome = timeout(time_max, opening).await;
    let outcome = outcome.unwrap_or_else(|_| {
        Err(StatementError::timed_out(
            StatementProgress::NotSent,
            time_max,
        ))
    });
    match outcome {
        Ok(connection) => {
            server.opened(&mut permit, ProbeGuard(None));
            // Give the connection back before its slot is free, so that the next request finds it there.
            drop(connection);
        }
        Err(fault) => {
            server.refused(permit, &fault.at(&server.name), ProbeGuard(None));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::options::{MysqlOptions, ServerAddress};

    #[tokio::test]
    async fn a_server_is_not_blamed_if_no_time_was_left_to_connect() {
        // The backlog accepts connections, but no server answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = ServerAddress {
            name: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
        };
        let options = MysqlOptions::new(vec![host], "app".to_owned(), "app".to_owned());
        let server = ServerPool::new(0, "silent".to_owned(), &options, options.hosts.first());
        let connect = Duration::from_millis(500);
        let times = PoolTimeouts {
            acquire: connect,
            connect,
            statement: connect,
        };
        let ask = async |time: Duration| server.acquire(times, Instant::now() + time).await.err();

        let fault = ask(Duration::from_millis(50)).await.unwrap();
        assert!(
            fault.detail.contains("no time was left"),
            "{}",
            fault.detail
        );
        assert_eq!(fault.class, StatementErrorClass::Unavailable);
        assert!(server.refusal().is_none());
        assert_eq!(server.usage().most, options.connection_limit);

        let fault = ask(connect * 2).await.unwrap();
        assert_eq!(fault.class, StatementErrorClass::TimedOut);
        assert!(server.refusal().is_some());
    }
}
