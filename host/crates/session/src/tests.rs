//! Tests of whole transactions, with the real manager, the real in-memory store, and closures as guests.

mod burst;
mod calls;
mod conflicts;
mod decisions;
mod faults;
mod fixture;
mod fold;
mod grants;
mod guest;
mod limits;
mod lost_replies;
mod processes;
mod replays;
mod rivals;
mod saves;
mod serial;
mod snapshots;
mod stubborn;
mod tables;
mod touches;
mod vanished;
