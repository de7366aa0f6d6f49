//! The settings of a MySQL server.

pub(crate) mod tls;
pub(crate) mod url;
