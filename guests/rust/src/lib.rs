//! Requests, responses, the session and cookies for guests in Rust. Knows nothing of the host but its WIT package.
//!
#![doc = include_str!("../README.md")]

pub mod client;
pub mod cookies;
mod error;
pub mod flash;
mod handler;
mod json;
mod request;
mod response;
pub mod router;
pub mod session;
pub mod wasi02;
#[cfg(feature = "service")]
pub mod wasi03;

pub use error::Error;
pub use handler::{AsyncHandler, Handler};
pub use request::Request;
pub use response::{Html, IntoResponse, Json, Response};
pub use router::{AsyncRouter, Router};

/// What Cloakroom adds to `wasi:http`, as `wit-bindgen` makes it. Both worlds share it.
#[allow(missing_docs, reason = "generated from the WIT package")]
mod bindings {
    wit_bindgen::generate!({ world: "imports", path: "../../wit" });
}

/// The interfaces without types: values are JSON texts, times are milliseconds.
///
/// For what [`session`](crate::session) and [`cookies`](crate::cookies) do not offer, and for values that no Rust type can hold.
pub mod raw {
    pub use crate::bindings::cloakroom::http::{cookies, session, types};
}
