//! The interfaces that guests may import.
//!
//! Each interface has a file with its name, its functions, its state of one request, the names of its grants, and its denials. This
//! file joins the interfaces. The linker, the loader, `cloakroom inspect` and the checks of the documentation read the table
//! [`INTERFACES`]. [`Services`] are the parts of the host that interfaces use, [`GuestGrants`] are the grants of a guest, and
//! [`RequestState`] is the state of a request. A new interface is a new file and its lines here. `accounting`, `head_set` and `log`
//! are the parts of a request that interfaces write to.

pub(crate) mod accounting;
pub(crate) mod bindings;
pub(crate) mod context;
pub(crate) mod cookies;
pub(crate) mod denials;
pub(crate) mod fields;
pub(crate) mod head_set;
pub(crate) mod http_types;
pub(crate) mod log;
pub(crate) mod outbound;
pub(crate) mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use wasmtime::component::Linker;

use self::accounting::RequestAccounting;
use self::context::GuestContext;
use self::cookies::CookieState;
use self::head_set::HeadSet;
use self::outbound::OutboundHost;
use self::session::SessionState;
use super::engine::GuestWorld;
use cloakroom_session::cookie::CookieJar;
use cloakroom_session::{Session, SessionGrant, SessionManager};

/// The interfaces that have grants or a state of their own, in the order of reports.
pub static INTERFACES: &[Interface] = &[
    Interface {
        key: "session",
        imports: &[session::NAME],
        grants: &session::GRANTS,
        link: |linker, _| session::link(linker, |context| &mut context.request_state.session),
        granted: session::granted,
    },
    Interface {
        key: "cookies",
        imports: &[cookies::NAME],
        grants: &cookies::GRANTS,
        link: |linker, _| cookies::link(linker, |context| &mut context.request_state.cookies),
        granted: |_| GrantSummary::default(),
    },
    Interface {
        key: "outbound_http",
        imports: &outbound::NAMES,
        grants: &outbound::GRANTS,
        link: http_types::link,
        granted: outbound::granted,
    },
];

/// One row of [`INTERFACES`].
pub struct Interface {
    /// The name of the interface in reports.
    pub key: &'static str,
    /// The names of the interface in a component's imports, without versions.
    pub imports: &'static [&'static str],
    /// The names of its grants in metrics and logs.
    pub grants: &'static [&'static str],
    /// Adds the interface to the linker of a world.
    pub(crate) link: fn(&mut Linker<GuestContext>, GuestWorld) -> wasmtime::Result<()>,
    /// Summarizes the grants of a guest on the interface.
    pub granted: fn(&GuestGrants) -> GrantSummary,
}

/// The parts of the host that the interfaces use. The app makes them once, and every request carries them.
#[derive(Debug)]
pub struct Services {
    /// Opens and commits the visitors' sessions.
    pub sessions: Arc<SessionManager>,
    /// Reads and writes the guests' own cookies.
    pub jar: Arc<CookieJar>,
}

impl Services {
    /// Creates services with these parts. Parts that are added later are empty, and their interfaces deny every call.
    pub fn new(sessions: Arc<SessionManager>, jar: Arc<CookieJar>) -> Self {
        Self { sessions, jar }
    }
}

/// The grants of a guest. The default grants nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuestGrants {
    /// The guest's permissions on the session.
    pub session: Arc<SessionGrant>,
    /// The hosts that the guest may send HTTP requests to.
    pub outbound_hosts: Arc<[OutboundHost]>,
}

/// The interfaces that a guest imports, and its grants on them.
pub(crate) struct GuestInterfaces {
    /// Their names, from [`INTERFACES`].
    imports: Vec<&'static str>,
    pub(crate) grants: GuestGrants,
}

/// The grants of a guest on one interface, as `cloakroom inspect` reports them.
#[derive(Debug, Default)]
pub struct GrantSummary {
    /// The configuration keys of the grants, and their values.
    pub keys: Vec<(&'static str, GrantValue)>,
    /// The grants as text: a heading, and a line for each grant.
    pub lines: Option<(&'static str, Vec<String>)>,
    /// The reason why every call is denied, if no grant allows any.
    pub missing: Option<&'static str>,
}

/// The value of a configuration key that grants access to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantValue {
    /// One of the key's words.
    Word(&'static str),
    /// A list of texts.
    List(Vec<String>),
}

/// The state of the request that an instance serves: a part for each interface.
///
/// A store runs one request at a time, so in both worlds its data identify the request of a call. If several requests shared a 0.3 instance
/// at once, the root of `async_call_stack()` would have to identify it.
pub(crate) struct RequestState {
    pub(crate) session: SessionState,
    pub(crate) cookies: CookieState,
    pub(crate) accounting: RequestAccounting,
}

/// The parts of one run that a [`RequestState`] is made from.
pub(crate) struct RunParts<'a> {
    pub(crate) guest: &'a GuestInterfaces,
    /// `None` if no host received the request.
    pub(crate) services: Option<&'a Services>,
    pub(crate) head: &'a http::request::Parts,
    pub(crate) session: Session,
    pub(crate) has_answered: HeadSet,
    pub(crate) accounting: RequestAccounting,
}

impl Interface {
    /// Returns whether the interface is the host's own, not a part of WASI.
    pub(crate) fn is_own(&self) -> bool {
        self.imports.iter().all(|name| !name.starts_with("wasi:"))
    }
}

impl GuestInterfaces {
    /// Takes the names of a component's imports, with their versions.
    pub(crate) fn new(imports: &[String], grants: GuestGrants) -> Self {
        let is_imported = |name: &&str| imports.iter().any(|import| is_version_of(import, name));
        Self {
            imports: names().filter(is_imported).collect(),
            grants,
        }
    }

    /// Returns whether the guest imports the interface of this name, in any version.
    pub(crate) fn imports(&self, name: &str) -> bool {
        self.imports.contains(&name)
    }
}

impl RequestState {
    pub(crate) fn of(run: &RunParts<'_>) -> Self {
        Self {
            session: SessionState::of(run),
            cookies: CookieState::of(run),
            accounting: run.accounting.clone(),
        }
    }

    /// Returns the state of an instance that runs no request. Its calls are denied.
    pub(crate) fn none() -> Self {
        let accounting = RequestAccounting::none();
        Self {
            session: SessionState::none(accounting.clone()),
            cookies: CookieState::none(accounting.clone()),
            accounting,
        }
    }
}

/// Returns the names of all grants, in the order of the table.
pub(crate) fn grants() -> impl Iterator<Item = &'static str> {
    INTERFACES
        .iter()
        .flat_map(|interface| interface.grants)
        .copied()
}

/// Returns the names of all interfaces in a component's imports, in the order of the table.
fn names() -> impl Iterator<Item = &'static str> {
    INTERFACES
        .iter()
        .flat_map(|interface| interface.imports)
        .copied()
}

/// Returns the names of the host's own interfaces, which are not part of WASI, except the interface of their types.
pub(crate) fn own_names() -> impl Iterator<Item = &'static str> {
    let own = INTERFACES.iter().filter(|interface| interface.is_own());
    own.flat_map(|interface| interface.imports).copied()
}

/// Returns whether the host may offer this import. Whether its functions fit is decided by the linker.
pub(crate) fn is_offered(import: &str) -> bool {
    let mut own = own_names().chain([bindings::TYPES]);
    import.starts_with("wasi:") || own.any(|name| is_version_of(import, name))
}

/// Returns whether an import is a version of the interface of this name.
pub(crate) fn is_version_of(import: &str, name: &str) -> bool {
    import
        .strip_prefix(name)
        .is_some_and(|rest| rest.starts_with('@'))
}
