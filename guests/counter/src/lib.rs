//! The counter: how often this visitor was here, and a way to start afresh.

mod count;

cloakroom_guest::handler!(count::handle);
