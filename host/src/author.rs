//! What those call who write guests: a new project, a host that follows the sources, the tests of a guest, a look into a
//! component. Serves no visitors of anybody's: what it shows and lets happen is for the machine that the guest is written on.

pub mod build;
pub mod dev;
pub mod inspect;
pub mod scaffold;
pub mod tools;
pub mod trial;
