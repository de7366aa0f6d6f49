//! The counter: counts the visits of each visitor, and can start the count again.

mod count;

cloakroom_guest::handler!(count::handle);
