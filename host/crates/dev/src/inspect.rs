//! `cloakroom inspect`: reports the properties of a component, whether this host can run it, and its grants. Does not run the
//! component.

mod grants;
mod text;

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use cloakroom_host::config::{CliOptions, Config};
use cloakroom_runtime as guest;
use cloakroom_runtime::{ComponentInspection, GuestSettings, INTERFACES, LoadError};
use grants::GrantReport;

/// The arguments of an inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectRequest {
    /// The file of the component.
    pub file: PathBuf,
    /// The configuration whose grants are reported. Without it, the grants of `cloakroom serve FILE` are reported.
    pub config: Option<PathBuf>,
}

impl InspectRequest {
    /// Returns the options with which the configuration is read.
    pub fn cli_options(&self) -> CliOptions {
        CliOptions {
            file: self.config.clone(),
            component: self.config.is_none().then(|| self.file.clone()),
            ..CliOptions::default()
        }
    }
}

/// A component that has been read.
#[derive(Debug)]
pub struct InspectedComponent {
    bytes: Vec<u8>,
    inspection: ComponentInspection,
}

impl InspectedComponent {
    /// Returns the bytes of the component.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the file of a component.
///
/// # Errors
/// Returns an error if the file cannot be read, is not a component or does not handle HTTP.
pub fn read(file: &Path) -> Result<InspectedComponent, LoadError> {
    let (bytes, inspection) = guest::inspect(file)?;
    Ok(InspectedComponent { bytes, inspection })
}

/// The report on a component. Its JSON format is stable: keys may be added, but none is renamed or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectReport {
    file: String,
    /// The configuration whose grants are reported. `None` for the grants of `cloakroom serve FILE`.
    config: Option<String>,
    bytes: u64,
    /// The SHA-256 hash in hexadecimal.
    digest: String,
    /// `wasi:http 0.2` or `wasi:http 0.3`.
    world: String,
    parts: SectionSizes,
    made_by: Vec<ProducerEntry>,
    /// Whether the component compiles and links on this host.
    fits: bool,
    /// The reason why it does not fit.
    reason: Option<String>,
    exports: Vec<String>,
    imports: ImportReport,
    uses: HostInterfaceUse,
    /// The grants of each guest that uses this component.
    grants: Vec<GrantReport>,
}

/// The number of modules, and the bytes of the component by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct SectionSizes {
    modules: usize,
    code: u64,
    data: u64,
    custom: u64,
    other: u64,
}

/// An entry of a `producers` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ProducerEntry {
    role: String,
    name: String,
    version: String,
}

/// The imports, grouped by their namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct ImportReport {
    cloakroom: Vec<String>,
    wasi: Vec<String>,
    unknown: Vec<String>,
}

/// The interfaces of [`INTERFACES`], and whether the component imports them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostInterfaceUse(Vec<(&'static str, bool)>);

impl InspectReport {
    /// Creates the report. `call` names the component, `config` is the configuration read with [`InspectRequest::cli_options`], and
    /// `fit` is the result of compiling and linking it.
    pub fn new(
        call: &InspectRequest,
        inspected: &InspectedComponent,
        config: &Config,
        fit: &Result<(), LoadError>,
    ) -> Self {
        let ComponentInspection {
            component,
            parts,
            tools,
        } = &inspected.inspection;
        let imports = ImportReport::of(&component.imports);
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
            parts: SectionSizes {
                modules: parts.modules,
                code: parts.code,
                data: parts.data,
                custom: parts.custom,
                other: parts.other,
            },
            made_by: tools.iter().map(ProducerEntry::of).collect(),
            fits: fit.is_ok(),
            reason: fit.as_ref().err().map(ToString::to_string),
            exports: component.exports.clone(),
            uses: HostInterfaceUse::of(&imports),
            grants: guests
                .map(|guest| GrantReport::of(guest, &imports))
                .collect(),
            imports,
        }
    }

    /// Returns the report as JSON, with a line break at the end.
    ///
    /// # Errors
    /// Returns a serialization error, which no report causes in practice.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Returns whether the component of a guest is this file, possibly by another path.
fn is_of(guest: &GuestSettings, file: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    guest.component == file || real(&guest.component).is_some_and(|it| Some(it) == real(file))
}

impl ProducerEntry {
    fn of(tool: &guest::ProducerField) -> Self {
        Self {
            role: tool.role.clone(),
            name: tool.name.clone(),
            version: tool.version.clone(),
        }
    }
}

impl HostInterfaceUse {
    fn of(imports: &ImportReport) -> Self {
        let uses = INTERFACES.iter().map(|interface| {
            let is_imported = interface.imports.iter().any(|name| imports.has(name));
            (interface.key, is_imported)
        });
        Self(uses.collect())
    }
}

impl Serialize for HostInterfaceUse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl ImportReport {
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

    /// Returns whether any version of the interface is imported.
    fn has(&self, interface: &str) -> bool {
        let all = self.cloakroom.iter().chain(&self.wasi);
        let mut names = all.map(|import| import.split('@').next().unwrap_or(import));
        names.any(|name| name == interface)
    }
}
