//! Tests that take their time: `make test` leaves them out by their name (`long::`), `make test-long` runs them.

pub(crate) mod herd;
pub(crate) mod power;
mod rotation;
