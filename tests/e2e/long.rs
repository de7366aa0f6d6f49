//! Slow tests: `make test` skips them by their name (`long::`), and `make test-long` runs them.

pub(crate) mod herd;
pub(crate) mod power;
mod rotation;
