//! The grants of a guest, and its imports that are denied without a grant.

use serde::{Serialize, Serializer};

use super::ImportReport;
use cloakroom_host::config::changed_limits;
use cloakroom_runtime::{GrantSummary, GrantValue, GuestSettings, INTERFACES};

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
    #[serde(flatten)]
    pub(crate) keys: GrantKeys,
    /// The grants of `keys` as text: headings and lines.
    #[serde(skip)]
    pub(crate) lines: Vec<(&'static str, Vec<String>)>,
    pub(crate) environment: Vec<String>,
    /// The maximum number of requests per instance.
    pub(crate) reuse: u32,
    /// The limits that differ from the defaults.
    pub(crate) limits: Vec<LimitReport>,
    pub(crate) denied: Vec<MissingGrant>,
}

/// The configuration's keys that grant access to the interfaces, and their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantKeys(Vec<(&'static str, GrantValue)>);

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
        let (mut keys, mut lines, mut denied) = (Vec::new(), Vec::new(), Vec::new());
        for interface in INTERFACES {
            let summary: GrantSummary = (interface.granted)(&guest.grants);
            keys.extend(summary.keys);
            lines.extend(summary.lines);
            if let Some(consequence) = summary.missing {
                denied.extend(imports.missing(interface.imports, consequence));
            }
        }
        denied.extend(denied_wasi(guest, imports));
        Self {
            guest: guest.name.clone(),
            keys: GrantKeys(keys),
            lines,
            environment: environment.map(|(name, _)| name.clone()).collect(),
            reuse: guest.reuse,
            limits: changed_limits(guest).into_iter().map(limit).collect(),
            denied,
        }
    }
}

impl Serialize for GrantKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| {
            let value = match value {
                GrantValue::Word(word) => serde_json::Value::from(*word),
                GrantValue::List(items) => serde_json::Value::from(items.as_slice()),
            };
            (key, value)
        }))
    }
}

impl ImportReport {
    /// Returns an entry for a group of interfaces that the guest cannot use, if one of them is imported.
    fn missing(
        &self,
        interfaces: &[&'static str],
        consequence: &'static str,
    ) -> Option<MissingGrant> {
        let import = interfaces.iter().find(|interface| self.has(interface))?;
        Some(MissingGrant {
            import,
            consequence,
        })
    }
}

/// Returns the entries for the other interfaces of WASI.
fn denied_wasi(guest: &GuestSettings, imports: &ImportReport) -> Vec<MissingGrant> {
    let environment = "there is no environment: it sees no variables";
    let variables = || imports.missing(&ENVIRONMENT, environment);
    let files = "guests have no access to files: it finds no directory";
    let sockets = "guests have no access to sockets: every connection is denied";
    [
        guest.environment.is_empty().then(variables).flatten(),
        imports.missing(&FILES, files),
        imports.missing(&SOCKETS, sockets),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_host::config::{CliOptions, Config};
    use cloakroom_runtime::GuestGrants;

    fn guest() -> GuestSettings {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("shop.wasm");
        std::fs::write(&component, "").unwrap();
        let cli = CliOptions {
            component: Some(component),
            ..CliOptions::default()
        };
        let nobody: [(&str, &str); 0] = [];
        Config::load(&cli, &nobody).unwrap().guests.remove(0)
    }

    fn imports(names: &[&str]) -> ImportReport {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        ImportReport::of(&names)
    }

    fn denied_imports(grants: &GrantReport) -> Vec<&str> {
        grants.denied.iter().map(|denied| denied.import).collect()
    }

    #[test]
    fn each_import_without_a_grant_is_listed_as_denied() {
        let all = imports(&[
            "cloakroom:http/session@0.1.0",
            "wasi:http/client@0.3.0",
            "wasi:cli/environment@0.2.10",
            "wasi:filesystem/preopens@0.2.10",
            "wasi:sockets/types@0.3.0",
        ]);
        let grants = GrantReport::of(&guest(), &all);
        let session = ("session", GrantValue::Word("write"));
        assert!(grants.keys.0.contains(&session), "{grants:?}");
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
            grants: GuestGrants {
                outbound_hosts: ["api.example.com".parse().unwrap()].into(),
                ..GuestGrants::default()
            },
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
    fn an_interface_that_is_not_imported_is_not_listed_as_denied() {
        let grants = GrantReport::of(&guest(), &imports(&["wasi:http/types@0.2.10"]));
        assert_eq!(grants.denied, []);
    }
}
