//! Checks that a guest's file must pass before it is compiled, and the errors they return. Each error names the value
//! found and the value expected, because its reader has the file but not this source.

use std::io::Read;
use std::path::{Path, PathBuf};

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use super::digest::ComponentDigest;
use crate::engine::GuestWorld;
use crate::interfaces::{is_offered, is_version_of, own_names};
use cloakroom_base::files;
use cloakroom_base::files::FileError;
use cloakroom_base::telemetry::cut;

/// Largest component file that the host accepts, in bytes. Components that contain a whole Python or JavaScript
/// interpreter have up to 20 MiB.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Most imports and exports of a component together. Real components have a few dozen.
const NAMES_MAX: usize = 10_000;
/// Names of the handler interface in each world, up to the minor version.
const HANDLER_02: &str = "wasi:http/incoming-handler@0.2.";
const HANDLER_03: &str = "wasi:http/handler@0.3.";
/// Name prefix of the interface that a command-line program exports.
const COMMAND: &str = "wasi:cli/run@";
/// Error returned when a file cannot be loaded as a guest.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// The path does not name a regular file.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than [`COMPONENT_BYTES_MAX`].
    #[error("{what} has {bytes} bytes; a component may have {COMPONENT_BYTES_MAX}")]
    TooLarge {
        /// The file's path, or a description of the input.
        what: String,
        /// Its size, in bytes.
        bytes: u64,
    },
    /// The file changed while it was read.
    #[error("{} was being written while it was read; write to another name and rename it", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not WebAssembly.
    #[error(
        "this is {found}, not a WebAssembly component; build one with `cargo build --target wasm32-wasip2`, for example"
    )]
    NotWasm {
        /// The kind of file that it seems to be.
        found: &'static str,
    },
    /// The file is a core module, not a component.
    #[error(
        "this is a core WebAssembly module, not a component; build for the target wasm32-wasip2, or make a component of \
         it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The file starts like a component, but it is truncated or damaged.
    #[error("the component is damaged or incomplete: {reason}")]
    Damaged {
        /// The defect and its position.
        reason: String,
    },
    /// The component is not an HTTP handler.
    #[error(
        "this component is {what}: it exports {}; an HTTP handler exports wasi:http/incoming-handler@0.2.x or \
         wasi:http/handler@0.3.x",
        listed(exports)
    )]
    NotAHandler {
        /// The kind of component that it is instead.
        what: &'static str,
        /// The names of its exports.
        exports: Vec<String>,
    },
    /// The component imports interfaces that the host does not have.
    #[error(
        "the component imports {}, which this host does not offer; it offers WASI 0.2 and 0.3{}",
        listed(imports),
        offered()
    )]
    UnknownImports {
        /// The names of these interfaces.
        imports: Vec<String>,
    },
    /// The component imports interfaces of this host, and functions of them have other types: those from before the package was frozen.
    #[error(
        "the component was built against an older cloakroom:http: build it again with the SDK or the `wit` folder of this version; \
         its types in {} are not those of this host",
        listed(imports)
    )]
    Outdated {
        /// Their names.
        imports: Vec<String>,
    },
    /// The component does not fit the host, or does not compile.
    #[error("the component ({world}) does not fit this host: {reason}")]
    Unfit {
        /// The world of the component.
        world: GuestWorld,
        /// The reason.
        reason: String,
    },
    /// An instance of the component would use more of the pool than its share, which could leave none for other guests.
    #[error(
        "an instance of the component needs {count} {what}, and this host gives one instance {most} at most: {remedy}"
    )]
    BeyondBudget {
        /// The amount that an instance needs.
        count: u32,
        /// The largest amount that one instance may have.
        most: u32,
        /// The kind of pool resource.
        what: &'static str,
        /// A way to fix the component.
        remedy: &'static str,
    },
    /// The linear memories that the component declares are larger at the start than the guest's limit.
    #[error(
        "an instance of the component starts with {needed} bytes of linear memory, and its memory limit is {bytes_max} bytes"
    )]
    MemoryTooSmall {
        /// The total initial size that it declares, in bytes.
        needed: u64,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The host refused memory to an instance of the component while the instance was made.
    #[error(
        "an instance of the component ({world}) cannot be made: it needs more memory than its limit of {bytes_max} bytes"
    )]
    MemoryRefused {
        /// The world of the component.
        world: GuestWorld,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The component was not compiled, although no defect was found in it. Compiling took too long or too much memory,
    /// or the compiler did not run.
    #[error("the component was not compiled: {reason}")]
    NotCompiled {
        /// The reason.
        reason: String,
    },
    /// The component fits, but no instance of it can be made.
    #[error("an instance of the component ({world}) cannot be made: {reason}")]
    NotInstantiable {
        /// The world of the component.
        world: GuestWorld,
        /// The reason.
        reason: String,
    },
    /// A setting of the guest exceeds a bound of the runtime.
    #[error("{reason}")]
    Settings {
        /// The setting, its value and the bound.
        reason: String,
    },
}

/// A description of a component, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentInfo {
    /// The component's digest.
    pub digest: ComponentDigest,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The version of `wasi:http` that it implements.
    pub world: GuestWorld,
    /// The names of the interfaces it imports.
    pub imports: Vec<String>,
    /// The names of its exports.
    pub exports: Vec<String>,
}

/// The properties of a component that can be read without compiling it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ComponentOutline {
    pub(crate) world: GuestWorld,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

impl ComponentOutline {
    /// Returns the names under which the component imports `interface`, one for each version.
    pub(crate) fn versions_of(&self, interface: &str) -> impl Iterator<Item = &String> {
        self.imports
            .iter()
            .filter(move |import| is_version_of(import, interface))
    }

    /// Returns the imports that are neither of WASI nor of the host's own interfaces. Whether another import fits is decided by
    /// the linker.
    pub(crate) fn unknown_imports(&self) -> Vec<String> {
        let is_offered = |import: &str| is_offered(import);
        self.imports
            .iter()
            .filter(|import| !is_offered(import))
            .cloned()
            .collect()
    }
}

/// Returns an error if the input is larger than [`COMPONENT_BYTES_MAX`].
///
/// # Errors
/// [`LoadError::TooLarge`].
pub(crate) fn check_size(what: &str, bytes: u64) -> Result<(), LoadError> {
    if bytes > COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge {
            what: what.to_owned(),
            bytes,
        });
    }
    Ok(())
}

/// Reads a component's whole file.
///
/// # Errors
/// [`LoadError::Unreadable`], [`LoadError::NotAFile`], [`LoadError::TooLarge`], [`LoadError::Changing`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |error| LoadError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let (mut file, before) = files::open(path).map_err(|error| match error {
        FileError::Io(error) => unreadable(error),
        _ => LoadError::NotAFile {
            path: path.to_owned(),
        },
    })?;
    check_size(&path.display().to_string(), before.len())?;
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default());
    Read::by_ref(&mut file)
        .take(COMPONENT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let after = file.metadata().map_err(unreadable)?;
    let is_stable = before.len() == after.len() && before.modified().ok() == after.modified().ok();
    if !is_stable || bytes.len() as u64 != after.len() {
        return Err(LoadError::Changing {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Parses a component's outermost imports and exports.
///
/// # Errors
/// [`LoadError::NotWasm`], [`LoadError::CoreModule`], [`LoadError::Damaged`], [`LoadError::NotAHandler`].
pub(crate) fn outline(bytes: &[u8]) -> Result<ComponentOutline, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm {
            found: look_at(bytes),
        });
    }
    let (imports, exports) = names(bytes)?;
    let has = |prefix: &str| exports.iter().any(|export| export.starts_with(prefix));
    let world = match (has(HANDLER_02), has(HANDLER_03)) {
        // A component that exports both handlers runs in the newer world.
        (_, true) => GuestWorld::Wasi03,
        (true, false) => GuestWorld::Wasi02,
        (false, false) => {
            let what = match exports.as_slice() {
                [] => "a library without exports",
                _ if has(COMMAND) => "a command-line program",
                _ => "not an HTTP handler",
            };
            return Err(LoadError::NotAHandler { what, exports });
        }
    };
    Ok(ComponentOutline {
        world,
        imports,
        exports,
    })
}

fn names(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), LoadError> {
    let damaged = |error: wasmparser::BinaryReaderError| LoadError::Damaged {
        reason: error.to_string(),
    };
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    // Imports and exports of nested modules and components are skipped.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => return Err(LoadError::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.into_iter().take(NAMES_MAX + 1) {
                    imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.into_iter().take(NAMES_MAX + 1) {
                    let export = export.map_err(damaged)?;
                    if export.kind == ComponentExternalKind::Instance
                        || export.kind == ComponentExternalKind::Func
                    {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
        if imports.len() + exports.len() > NAMES_MAX {
            let reason = format!("it has more than {NAMES_MAX} imports and exports");
            return Err(LoadError::Damaged { reason });
        }
    }
    Ok((imports, exports))
}

fn look_at(bytes: &[u8]) -> &'static str {
    let start = &bytes[..bytes.len().min(512)];
    match bytes {
        [] => "an empty file",
        [0x7f, b'E', b'L', b'F', ..] => "a native executable (ELF)",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [b'P', b'K', ..] => "a zip archive",
        _ if start.trim_ascii_start().starts_with(b"(component")
            || start.trim_ascii_start().starts_with(b"(module") =>
        {
            "WebAssembly text"
        }
        _ if std::str::from_utf8(&start[..start.len().saturating_sub(3)]).is_ok() => "a text file",
        _ => "binary data of an unknown kind",
    }
}

/// Returns the names of the host's own interfaces, as the end of a list.
fn offered() -> String {
    let names: Vec<_> = own_names().collect();
    match names.as_slice() {
        [] => String::new(),
        [name] => format!(" and {name}"),
        [names @ .., last] => format!(", {} and {last}", names.join(", ")),
    }
}

fn listed(names: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    const NAME_BYTES_MAX: usize = 200;
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let shown = names
        .iter()
        .take(SHOWN_MAX)
        .map(|name| cut(name, NAME_BYTES_MAX).0)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_wasm_is_refused_with_its_kind() {
        for (bytes, found) in [
            (&b""[..], "an empty file"),
            (b"(component)", "WebAssembly text"),
            (b"fn main() {}", "a text file"),
            (b"\x7fELF\x02", "a native executable (ELF)"),
        ] {
            let error = outline(bytes).unwrap_err();
            assert!(
                matches!(error, LoadError::NotWasm { found: f } if f == found),
                "{error}"
            );
        }
    }

    #[test]
    fn a_core_module_is_distinguished_from_a_component() {
        assert!(matches!(
            outline(b"\0asm\x01\0\0\0"),
            Err(LoadError::CoreModule)
        ));
        let error = outline(b"\0asm\x0d\0\x01\0").unwrap_err();
        assert!(error.to_string().contains("without exports"), "{error}");
    }

    #[test]
    fn a_component_has_a_bounded_number_of_names() {
        let text = |exports: usize| {
            let exports = "(export \"a\" (func $f))".repeat(exports);
            format!("(component (import \"f\" (func $f)) {exports})")
        };
        let error = |exports| outline(&wat::parse_str(text(exports)).unwrap()).unwrap_err();
        assert!(matches!(
            error(NAMES_MAX - 1),
            LoadError::NotAHandler { .. }
        ));
        let error = error(NAMES_MAX).to_string();
        assert!(error.contains("more than 10000 imports"), "{error}");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe.wasm");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(matches!(read(&path), Err(LoadError::NotAFile { .. })));
    }

    #[test]
    fn an_oversized_or_missing_file_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.wasm");
        std::fs::File::create(&path)
            .unwrap()
            .set_len(COMPONENT_BYTES_MAX + 1)
            .unwrap();
        assert!(matches!(read(&path), Err(LoadError::TooLarge { .. })));
        assert!(matches!(read(dir.path()), Err(LoadError::NotAFile { .. })));
        assert!(matches!(
            read(&dir.path().join("absent")),
            Err(LoadError::Unreadable { .. })
        ));
    }
}
