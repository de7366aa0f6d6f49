//! The counter as a guest for WASI 0.3, with the same handler as the guest for WASI 0.2.

#[path = "../../counter/src/count.rs"]
mod count;

cloakroom_guest::service!(count::handle);
