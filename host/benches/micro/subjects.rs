//! The operations that both benchmarks, of time and of instructions, measure. Sharing them makes the results comparable.

pub(crate) mod cookies;
pub(crate) mod guests;
pub(crate) mod rows;
pub(crate) mod visits;
