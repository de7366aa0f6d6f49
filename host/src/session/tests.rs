//! Tests of whole transactions.

mod serial;
