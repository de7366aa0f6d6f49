//! The kinds of session stores.

pub(crate) mod mysql;
