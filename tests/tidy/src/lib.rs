//! The project's rules, held by `tests/tidy.rs` of this package.
