//! Requests, responses and the session for guests in Rust. Knows nothing of the host but its WIT package.
//!
#![doc = include_str!("../README.md")]

mod request;
mod response;
pub mod session;
pub mod wasi02;
#[cfg(feature = "service")]
pub mod wasi03;

pub use request::Request;
pub use response::{IntoResponse, Response};
pub use session::Error;

/// The session interface as `wit-bindgen` makes it: values are JSON texts. Both worlds share it.
#[allow(missing_docs, reason = "generated from the WIT package")]
mod bindings {
    wit_bindgen::generate!({ world: "imports", path: "../../wit" });
}

/// The session interface without types: values are JSON texts, times are milliseconds.
///
/// For what [`session`](crate::session) does not offer, and for values that no Rust type can hold.
pub mod raw {
    pub use crate::bindings::cloakroom::http::session::*;
}

/// The cookies interface as it is; see `cookies.wit`.
pub mod raw_cookies {
    pub use crate::bindings::cloakroom::http::cookies::*;
}
