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
