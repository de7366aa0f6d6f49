//! The body of a request.

pub(crate) mod joiner;
pub(crate) mod pace;
