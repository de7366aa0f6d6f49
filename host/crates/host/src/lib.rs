//! The host: reads the configuration, builds the parts, and answers each request with a guest inside a session transaction.
//!
//! - [`config`]: TOML, environment and command line to a checked [`Config`](config::Config). All faults are reported at once.
//! - `stores`: the kinds of session stores, each with its URL, its keys of `[store]` and how to open it.
//! - [`app`]: builds a host from a `Config`, serves, reloads and shuts down.
//! - [`handler`]: the path of a request, in order.
//! - [`route`]: the routing table.
//! - [`admin`]: the operator's interface, and its client.
//! - [`json_api`]: the parts of an interface with JSON responses.

pub mod admin;
pub mod app;
pub mod config;
mod config_reader;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod handler;
pub mod json_api;
pub mod route;
mod stores;
