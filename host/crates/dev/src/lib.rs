//! The tools for guest authors: project templates, a development host that follows the sources, guest tests and the inspection
//! of components. A host started here is meant only for the developer's own machine. It must not serve visitors, because it
//! shows session values and build output.

pub mod build;
pub mod inspect;
pub mod live;
pub mod scaffold;
pub mod test_host;
pub mod tools;
