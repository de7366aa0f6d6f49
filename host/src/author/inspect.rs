//! `cloakroom inspect`: what a component is, whether this host would take it, and what it would be granted. Runs nothing of it.

mod grants;
mod text;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Config, GuestSettings, Words};
use crate::guest::{self, Inspection, LoadError};
use grants::Grants;

/// What is to be inspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspect {
    /// The component.
    pub file: PathBuf,
    /// The configuration whose grants are asked for; without it, what `cloakroom serve FILE` grants.
    pub config: Option<PathBuf>,
}

impl Inspect {
    /// What the configuration is read by.
    pub fn words(&self) -> Words {
        Words {
            file: self.config.clone(),
            component: self.config.is_none().then(|| self.file.clone()),
            ..Words::default()
        }
    }
}

/// A component that was looked at.
#[derive(Debug)]
pub struct Inspected {
    bytes: Vec<u8>,
    inspection: Inspection,
}

impl Inspected {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a component's file.
///
/// # Errors
/// When it cannot be read, is no component or handles no HTTP.
pub fn read(file: &Path) -> Result<Inspected, LoadError> {
    let (bytes, inspection) = guest::inspect(file)?;
    Ok(Inspected { bytes, inspection })
}

/// All that is told of a component. Its JSON is stable: keys are added, none is renamed or taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    file: String,
    /// The configuration whose grants are told; none where they are those of `cloakroom serve FILE`.
    config: Option<String>,
    bytes: u64,
    /// SHA-256, in hexadecimal.
    digest: String,
    /// `wasi:http 0.2` or `wasi:http 0.3`.
    world: String,
    parts: Parts,
    made_by: Vec<Tool>,
    /// Whether this host compiles and links it.
    fits: bool,
    /// Why not.
    reason: Option<String>,
    exports: Vec<String>,
    imports: Imports,
    uses: Uses,
    /// What each guest that is this component is granted.
    grants: Vec<Grants>,
}

/// Bytes of the component, by what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Parts {
    modules: usize,
    code: u64,
    data: u64,
    custom: u64,
    other: u64,
}

/// One entry of a `producers` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Tool {
    role: String,
    name: String,
    version: String,
}

/// The imports by who defines them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Imports {
    cloakroom: Vec<String>,
    wasi: Vec<String>,
    unknown: Vec<String>,
}

/// What of the host it can call at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Uses {
    session: bool,
    cookies: bool,
    outbound_http: bool,
}

impl Report {
    /// What is told of a component: `call` says which, `config` is what [`Inspect::words`] gave, `fit` whether this host
    /// takes it.
    pub fn new(
        call: &Inspect,
        inspected: &Inspected,
        config: &Config,
        fit: &Result<(), LoadError>,
    ) -> Self {
        let Inspection {
            component,
            parts,
            tools,
        } = &inspected.inspection;
        let imports = Imports::of(&component.imports);
        let guests = config
            .guests
            .iter()
            .filter(|guest| is_of(guest, &call.file));
        Self {
            file: call.file.display().to_string(),
            config: call.config.as_ref().map(|file| file.display().to_string()),
            bytes: component.bytes,
            digest: component.digest.to_string(),
            world: component.world.to_string(),
            parts: Parts {
                modules: parts.modules,
                code: parts.code,
                data: parts.data,
                custom: parts.custom,
                other: parts.other,
            },
            made_by: tools.iter().map(Tool::of).collect(),
            fits: fit.is_ok(),
            reason: fit.as_ref().err().map(ToString::to_string),
            exports: component.exports.clone(),
            uses: Uses {
                session: imports.has("cloakroom:http/session"),
                cookies: imports.has("cloakroom:http/cookies"),
                outbound_http: grants::OUTBOUND.iter().any(|name| imports.has(name)),
            },
            grants: guests.map(|guest| Grants::of(guest, &imports)).collect(),
            imports,
        }
    }

    /// As JSON, with a line break at the end.
    ///
    /// # Errors
    /// None that a report could cause.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Whether a guest's component is this very file, by whatever path.
fn is_of(guest: &GuestSettings, file: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    guest.component == file || real(&guest.component).is_some_and(|it| Some(it) == real(file))
}

impl Tool {
    fn of(tool: &guest::Tool) -> Self {
        Self {
            role: tool.role.clone(),
            name: tool.name.clone(),
            version: tool.version.clone(),
        }
    }
}

impl Imports {
    fn of(imports: &[String]) -> Self {
        let mut sorted = Self::default();
        for import in imports {
            let group = match import.split(':').next() {
                Some("cloakroom") => &mut sorted.cloakroom,
                Some("wasi") => &mut sorted.wasi,
                _ => &mut sorted.unknown,
            };
            group.push(import.clone());
        }
        sorted
    }

    /// Whether some version of an interface is among them.
    fn has(&self, interface: &str) -> bool {
        let all = self.cloakroom.iter().chain(&self.wasi);
        let mut names = all.map(|import| import.split('@').next().unwrap_or(import));
        names.any(|name| name == interface)
    }
}
