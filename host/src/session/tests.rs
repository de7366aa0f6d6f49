//! Tests of whole transactions: the real manager over the real store in memory, with closures for guests.

mod burst;
mod calls;
mod conflicts;
mod decisions;
mod faults;
mod fold;
mod grants;
mod guest;
mod house;
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
