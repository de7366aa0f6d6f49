//! The interfaces that guests may import: sessions, cookies and outgoing HTTP, and the denials of calls without a grant.

pub(crate) mod bindings;
pub(crate) mod context;
pub(crate) mod cookies;
pub(crate) mod denials;
pub(crate) mod http_types;
pub(crate) mod outbound;
pub(crate) mod session;
