//! What both benchmarks measure, time and instructions alike, so that their figures are of the same work.

pub(crate) mod cookies;
pub(crate) mod guests;
pub(crate) mod rows;
pub(crate) mod visits;
