//! A connection that is in use.

use std::time::Duration;

use mysql_async::Conn;

use super::super::connection::{self, Statement, StatementResult};
use super::super::error::{ServerEpoch, StatementError, StatementErrorClass};
use super::{PoolPermit, ServerPool};

/// A connection that is in use. Dropping it gives it back, or closes it if a statement on it did not finish.
pub(crate) struct PooledConnection<'a> {
    // Dropped before `seat`, so that the next request finds the connection in its slot.
    connection: Conn,
    seat: PoolPermit,
    server: &'a ServerPool,
    statement_timeout: Duration,
}

impl<'a> PooledConnection<'a> {
    pub(crate) fn new(
        connection: Conn,
        seat: PoolPermit,
        server: &'a ServerPool,
        statement_timeout: Duration,
    ) -> Self {
        Self {
            connection,
            seat,
            server,
            statement_timeout,
        }
    }

    /// Runs a statement within the statement timeout.
    pub(crate) async fn run(
        &mut self,
        statement: &Statement<'_>,
    ) -> Result<StatementResult, StatementError> {
        self.run_for(statement, self.statement_timeout).await
    }

    /// Runs a statement within a different time limit.
    ///
    /// Cancel safety: if dropped, the connection is lost and the statement may still run.
    pub(crate) async fn run_for(
        &mut self,
        statement: &Statement<'_>,
        time_max: Duration,
    ) -> Result<StatementResult, StatementError> {
        // Until the answer arrives: the driver closes a connection whose statement did not finish.
        self.seat.set_sound(false);
        let outcome = connection::run(&mut self.connection, statement, time_max).await;
        let is_lost = |fault: &StatementError| {
            matches!(
                fault.class,
                StatementErrorClass::LinkLost
                    | StatementErrorClass::TimedOut
                    | StatementErrorClass::HostLeaving
            )
        };
        self.seat.set_sound(!outcome.as_ref().is_err_and(is_lost));
        let generation = self.seat.generation();
        let server = self.server.index;
        let origin = ServerEpoch { server, generation };
        let outcome = outcome.map_err(|fault| fault.at(self.server.name()).of_origin(origin));
        self.server.note(generation, &outcome);
        outcome
    }
}
