//! The project's rules, held by `tests/tidy.rs` of this package, and the figures that `make tidy-figures` prints.
//!
//! Reads source text only. It depends on no other crate, so that it compiles in seconds.

pub mod changes;
pub mod circles;
pub mod crates;
pub mod documents;
pub mod english;
pub mod figures;
pub mod lexer;
pub mod source;
pub mod tree;
