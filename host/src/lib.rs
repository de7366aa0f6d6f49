//! Cloakroom, a WebAssembly component session host, as a library. The binary and the tests are built on it.
//!
//! `ARCHITECTURE.md` describes the path of a request and which module may import which; `tests/tidy.rs` contains the table.

pub mod admin;
pub mod app;
pub mod args;
pub mod author;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod deadline;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod guest;
pub mod handler;
mod hostname;
pub mod limits;
pub mod quota;
mod random;
pub mod record;
pub mod route;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
