//! The counter as a guest for WASI 0.3: the same handler, another world.

#[path = "../../counter/src/count.rs"]
mod count;

cloakroom_guest::service!(count::handle);
