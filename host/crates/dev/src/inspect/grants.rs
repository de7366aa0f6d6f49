//! The grants of a guest, and its imports that are denied without a grant.

use serde::Serialize;

use super::ImportReport;
use cloakroom_host::config::{GuestSettings, SessionAccess};

/// The interfaces that send requests to other servers, in WASI 0.2 and 0.3.
pub(crate) const OUTBOUND: [&str; 2] = ["wasi:http/outgoing-handler", "wasi:http/client"];
const SESSION: [&str; 1] = ["cloakroom:http/session"];
const ENVIRONMENT: [&str; 1] = ["wasi:cli/environment"];
const FILES: [&str; 2] = ["wasi:filesystem/preopens", "wasi:filesystem/types"];
const SOCKETS: [&str; 5] = [
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp-create-socket",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// The grants of one guest. Contains only the names of its environment variables, because the values may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct GrantReport {
    pub(crate) guest: String,
    /// `none`, `read` or `write`.
    pub(crate) session: &'static str,
    /// The keys that the guest may read. Empty means all keys.
    pub(crate) read_keys: Vec<String>,
    /// The keys that the guest may write. Empty means all keys.
    pub(crate) write_keys: Vec<String>,
    pub(crate) outbound_hosts: Vec<String>,
    pub(crate) environment: Vec<String>,
    /// The maximum number of requests per instance.
    pub(crate) reuse: u32,
    /// The limits that differ from the defaults.
    pub(crate) limits: Vec<LimitReport>,
    pub(crate) denied: Vec<MissingGrant>,
}

/// A limit in the notation of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LimitReport {
    pub(crate) key: &'static str,
    pub(crate) value: String,
}

/// An import without a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MissingGrant {
    pub(crate) import: &'static str,
    pub(crate) consequence: &'static str,
}

impl GrantReport {
    pub(crate) fn of(guest: &GuestSettings, imports: &ImportReport) -> Self {
        let limit = |(key, value)| LimitReport { key, value };
        let environment = guest.environment.iter();
        Self {
            guest: guest.name.clone(),
            session: match guest.session {
                SessionAccess::None => "none",
                SessionAccess::Read => "read",
                SessionAccess::Write => "write",
            },
            read_keys: guest.read_keys.clone(),
            write_keys: guest.write_keys.clone(),
            outbound_hosts: guest
                .outbound_hosts
                .iter()
                .map(ToString::to_string)
                .collect(),
            environment: environment.map(|(name, _)| name.clone()).collect(),
            reuse: guest.reuse,
            limits: guest.limits.changed().into_iter().map(limit).collect(),
            denied: denied(guest, imports),
        }
    }
}

/// Returns an entry for each group of imported interfaces that the guest cannot use without a grant.
fn denied(guest: &GuestSettings, imports: &ImportReport) -> Vec<MissingGrant> {
    let cases: [(bool, &[&'static str], &'static str); 5] = [
        (
            guest.session == SessionAccess::None,
            &SESSION,
            "session is \"none\": every call is denied",
        ),
        (
            guest.outbound_hosts.is_empty(),
            &OUTBOUND,
            "there are no outbound_hosts: every call out is denied",
        ),
        (
            guest.environment.is_empty(),
            &ENVIRONMENT,
            "there is no environment: it sees no variables",
        ),
        (
            true,
            &FILES,
            "guests have no access to files: it finds no directory",
        ),
        (
            true,
            &SOCKETS,
            "guests have no access to sockets: every connection is denied",
        ),
    ];
    let mut denied = Vec::new();
    for (is_missing, interfaces, consequence) in cases {
        let import = interfaces.iter().find(|interface| imports.has(interface));
        if let Some(import) = import.filter(|_| is_missing) {
            denied.push(MissingGrant {
                import,
                consequence,
            });
        }
    }
    denied
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_host::config::{CliOptions, Config};

    fn guest() -> GuestSettings {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("shop.wasm");
        std::fs::write(&component, "").unwrap();
        let words = CliOptions {
            component: Some(component),
            ..CliOptions::default()
        };
        let nobody: [(&str, &str); 0] = [];
        Config::load(&words, &nobody).unwrap().guests.remove(0)
    }

    fn imports(names: &[&str]) -> ImportReport {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        ImportReport::of(&names)
    }

    fn denied_imports(grants: &GrantReport) -> Vec<&str> {
        grants.denied.iter().map(|denied| denied.import).collect()
    }

    #[test]
    fn each_import_without_a_grant_is_told() {
        let all = imports(&[
            "cloakroom:http/session@0.1.0",
            "wasi:http/client@0.3.0",
            "wasi:cli/environment@0.2.10",
            "wasi:filesystem/preopens@0.2.10",
            "wasi:sockets/types@0.3.0",
        ]);
        let grants = GrantReport::of(&guest(), &all);
        assert_eq!(grants.session, "write");
        assert_eq!(
            denied_imports(&grants),
            [
                "wasi:http/client",
                "wasi:cli/environment",
                "wasi:filesystem/preopens",
                "wasi:sockets/types"
            ]
        );

        let granted = GuestSettings {
            session: SessionAccess::None,
            outbound_hosts: vec!["api.example.com".parse().unwrap()],
            environment: vec![("TOKEN".to_owned(), "hunter2".to_owned())],
            ..guest()
        };
        let grants = GrantReport::of(&granted, &all);
        assert_eq!(
            denied_imports(&grants),
            [
                "cloakroom:http/session",
                "wasi:filesystem/preopens",
                "wasi:sockets/types"
            ]
        );
        let json = serde_json::to_string(&grants).unwrap();
        assert!(
            json.contains("TOKEN") && !json.contains("hunter2"),
            "{json}"
        );
    }

    #[test]
    fn what_is_not_imported_is_not_denied() {
        let grants = GrantReport::of(&guest(), &imports(&["wasi:http/types@0.2.10"]));
        assert_eq!(grants.denied, []);
    }
}
