//! A connection that is in use.

use std::time::Duration;

use mysql_async::Conn;

use super::super::error::{Class, Fault, Origin};
use super::super::link::{self, Answer, Statement};
use super::{Seat, ServerPool};

/// A connection that is in use. Dropping it gives it back, or closes it if a statement on it did not finish.
pub(in crate::store::mysql) struct Link<'a> {
    // Dropped before `seat`, so that the next request finds the connection in its slot.
    connection: Conn,
    seat: Seat,
    server: &'a ServerPool,
    statement_timeout: Duration,
}

impl<'a> Link<'a> {
    pub(super) fn new(
        connection: Conn,
        seat: Seat,
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
    pub(in crate::store::mysql) async fn run(
        &mut self,
        statement: &Statement<'_>,
    ) -> Result<Answer, Fault> {
        self.run_for(statement, self.statement_timeout).await
    }

    /// Runs a statement within a different time limit.
    ///
    /// Cancel safety: if dropped, the connection is lost and the statement may still run.
    pub(in crate::store::mysql) async fn run_for(
        &mut self,
        statement: &Statement<'_>,
        time_max: Duration,
    ) -> Result<Answer, Fault> {
        // Until the answer arrives: the driver closes a connection whose statement did not finish.
        self.seat.set_sound(false);
        let outcome = link::run(&mut self.connection, statement, time_max).await;
        let is_lost = |fault: &Fault| {
            matches!(
                fault.class,
                Class::LinkLost | Class::TimedOut | Class::HostLeaving
            )
        };
        self.seat.set_sound(!outcome.as_ref().is_err_and(is_lost));
        let generation = self.seat.generation();
        let server = self.server.index;
        let origin = Origin { server, generation };
        let outcome = outcome.map_err(|fault| fault.at(self.server.name()).of_origin(origin));
        self.server.note(generation, &outcome);
        outcome
    }
}
