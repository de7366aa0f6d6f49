//! The parts that every other crate of Cloakroom uses: limits, a macro for types of options, clocks, deadlines, randomness, the
//! operator's files, quotas and telemetry.
//!
//! This crate knows no sessions, guests or requests.

pub mod clock;
pub mod deadline;
pub mod files;
pub mod hostname;
pub mod limits;
mod options;
pub mod quota;
pub mod random;
pub mod telemetry;
