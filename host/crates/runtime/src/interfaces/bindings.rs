//! The interfaces that the host adds to the `wasi` worlds, as bindgen generates them from `wit/`. Both worlds share them.
//!
//! The bindings are generated without tracing, which would log session values and cookies.

#[allow(missing_docs, unreachable_pub, reason = "written by the macro")]
mod made {
    wasmtime::component::bindgen!({
        path: "../../../wit",
        world: "cloakroom:http/imports",
        imports: { default: async | trappable },
    });
}

pub(crate) use made::cloakroom::http::*;

use cloakroom_session::record;

/// The name of the interface of shared types in a component's imports, without its version.
pub(crate) const TYPES: &str = "cloakroom:http/types";

impl From<record::SameSite> for types::SameSite {
    fn from(same_site: record::SameSite) -> Self {
        match same_site {
            record::SameSite::Strict => Self::Strict,
            record::SameSite::Lax => Self::Lax,
            record::SameSite::None => Self::None,
        }
    }
}

impl From<types::SameSite> for record::SameSite {
    fn from(same_site: types::SameSite) -> Self {
        match same_site {
            types::SameSite::Strict => Self::Strict,
            types::SameSite::Lax => Self::Lax,
            types::SameSite::None => Self::None,
        }
    }
}

impl From<record::Priority> for types::Priority {
    fn from(priority: record::Priority) -> Self {
        match priority {
            record::Priority::Low => Self::Low,
            record::Priority::Medium => Self::Medium,
            record::Priority::High => Self::High,
        }
    }
}

impl From<types::Priority> for record::Priority {
    fn from(priority: types::Priority) -> Self {
        match priority {
            types::Priority::Low => Self::Low,
            types::Priority::Medium => Self::Medium,
            types::Priority::High => Self::High,
        }
    }
}
