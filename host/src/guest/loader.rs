//! What a guest's file must be before it is compiled: reads it and looks at it. Every refusal says what
//! was found and what was wanted, because whoever reads it has a file and not this source.

use std::io::Read;
use std::path::{Path, PathBuf};

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use super::digest::Digest;
use super::engine::World;
use super::{bindings, cookies_host, session_host};
use crate::files::{self, FileError};
use crate::telemetry::cut;

/// Largest file taken for a component, in bytes. Whole interpreters of Python and JavaScript come to 20 MiB.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Most imports and exports of a component together; real ones have some dozens.
const NAMES_MAX: usize = 10_000;
/// What the handler's interface is called in either world, up to its minor version.
const HANDLER_02: &str = "wasi:http/incoming-handler@0.2.";
const HANDLER_03: &str = "wasi:http/handler@0.3.";
/// What a program for the command line exports.
const COMMAND: &str = "wasi:cli/run@";
/// What of its imports we can offer at all; whether each fits is for the linker to say.
const OFFERED: [&str; 4] = [
    "wasi:",
    session_host::INTERFACE,
    cookies_host::INTERFACE,
    bindings::TYPES,
];

/// Why a file is no guest.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The path names no regular file.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than any component we take.
    #[error("{what} has {bytes} bytes; a component may have {COMPONENT_BYTES_MAX}")]
    TooLarge {
        /// The file, or what else was given.
        what: String,
        /// Its size, in bytes.
        bytes: u64,
    },
    /// The file changed while it was read.
    #[error("{} was being written while it was read; write to another name and rename", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// The file is no WebAssembly at all.
    #[error(
        "this is {found}, not a WebAssembly component; build one with `cargo build --target wasm32-wasip2`, for example"
    )]
    NotWasm {
        /// What it looks like.
        found: &'static str,
    },
    /// The file is a core module, not a component.
    #[error(
        "this is a core WebAssembly module, not a component; build for the target wasm32-wasip2, or make a component of \
         it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The file starts like a component and breaks off or is damaged.
    #[error("the component is damaged or incomplete: {reason}")]
    Damaged {
        /// What is wrong, and where.
        reason: String,
    },
    /// The component is no HTTP handler.
    #[error(
        "this component is {what}: it exports {}; an HTTP handler exports wasi:http/incoming-handler@0.2.x or \
         wasi:http/handler@0.3.x",
        listed(exports)
    )]
    NotAHandler {
        /// What it is instead.
        what: &'static str,
        /// What it exports.
        exports: Vec<String>,
    },
    /// The component imports interfaces that the host does not have.
    #[error(
        "the component imports {}, which this host does not offer; it offers WASI 0.2 and 0.3, {} and {}",
        listed(imports),
        session_host::INTERFACE,
        cookies_host::INTERFACE
    )]
    UnknownImports {
        /// Their names.
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
        /// Which world it is for.
        world: World,
        /// What does not fit.
        reason: String,
    },
    /// An instance of the component would take more of the pool than its share, so that others could get none.
    #[error(
        "an instance of the component needs {count} {what}, and this host gives one instance {most} at most: {remedy}"
    )]
    BeyondBudget {
        /// How many it needs.
        count: u32,
        /// How many it may have.
        most: u32,
        /// Of which.
        what: &'static str,
        /// What can be done.
        remedy: &'static str,
    },
    /// The linear memories that the component declares are larger at the start than its guest's limit.
    #[error(
        "an instance of the component starts with {needed} bytes of linear memory, and its memory limit is {bytes_max} bytes"
    )]
    MemoryTooSmall {
        /// What it declares, in bytes.
        needed: u64,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// An instance of the component was refused memory while it was made.
    #[error(
        "an instance of the component ({world}) cannot be made: it needs more memory than its limit of {bytes_max} bytes"
    )]
    MemoryRefused {
        /// Which world it is for.
        world: World,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The component was not compiled, through no fault that was found in it: it took too long or too much memory, or the
    /// compiler did not run.
    #[error("the component was not compiled: {reason}")]
    NotCompiled {
        /// Why not.
        reason: String,
    },
    /// The component fits, but no instance of it can be made.
    #[error("an instance of the component ({world}) cannot be made: {reason}")]
    NotInstantiable {
        /// Which world it is for.
        world: World,
        /// Why not.
        reason: String,
    },
    /// A setting of the guest is beyond what the runtime was made for.
    #[error("{reason}")]
    Settings {
        /// Which setting, its value and the bound.
        reason: String,
    },
}

/// What a component is, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Which `wasi:http` it speaks.
    pub world: World,
    /// The interfaces it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// What can be told of a component without compiling it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) world: World,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

impl Outline {
    /// Whether it imports an interface of the host's own, in any version.
    pub(super) fn imports(&self, interface: &str) -> bool {
        self.versions_of(interface).next().is_some()
    }

    /// The names under which it imports an interface of the host's own, one for each version.
    pub(super) fn versions_of(&self, interface: &str) -> impl Iterator<Item = &String> {
        self.imports
            .iter()
            .filter(move |import| is_version_of(import, interface))
    }

    /// Imports that belong to none of the families of interfaces we offer.
    pub(super) fn unknown_imports(&self) -> Vec<String> {
        let is_offered = |import: &str| {
            OFFERED.iter().any(|offered| {
                if offered.ends_with(':') {
                    import.starts_with(offered)
                } else {
                    is_version_of(import, offered)
                }
            })
        };
        self.imports
            .iter()
            .filter(|import| !is_offered(import))
            .cloned()
            .collect()
    }
}

fn is_version_of(import: &str, interface: &str) -> bool {
    import
        .strip_prefix(interface)
        .is_some_and(|rest| rest.starts_with('@'))
}

/// Refuses what is larger than any component.
///
/// # Errors
/// [`LoadError::TooLarge`].
pub(super) fn check_size(what: &str, bytes: u64) -> Result<(), LoadError> {
    if bytes > COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge {
            what: what.to_owned(),
            bytes,
        });
    }
    Ok(())
}

/// Reads a component's file whole.
///
/// # Errors
/// [`LoadError::Unreadable`], [`LoadError::NotAFile`], [`LoadError::TooLarge`], [`LoadError::Changing`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
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

/// Looks at a component's outermost imports and exports.
///
/// # Errors
/// [`LoadError::NotWasm`], [`LoadError::CoreModule`], [`LoadError::Damaged`], [`LoadError::NotAHandler`].
pub(super) fn outline(bytes: &[u8]) -> Result<Outline, LoadError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm {
            found: look_at(bytes),
        });
    }
    let (imports, exports) = names(bytes)?;
    let has = |prefix: &str| exports.iter().any(|export| export.starts_with(prefix));
    let world = match (has(HANDLER_02), has(HANDLER_03)) {
        // One that speaks both is run by the newer one's rules.
        (_, true) => World::Wasi03,
        (true, false) => World::Wasi02,
        (false, false) => {
            let what = match exports.as_slice() {
                [] => "a library without exports",
                _ if has(COMMAND) => "a program for the command line",
                _ => "no HTTP handler",
            };
            return Err(LoadError::NotAHandler { what, exports });
        }
    };
    Ok(Outline {
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
    // What lies within nested modules and components is their own affair.
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
        [0x7f, b'E', b'L', b'F', ..] => "a program of this machine (ELF)",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [b'P', b'K', ..] => "a zip archive",
        _ if start.trim_ascii_start().starts_with(b"(component")
            || start.trim_ascii_start().starts_with(b"(module") =>
        {
            "WebAssembly text"
        }
        _ if std::str::from_utf8(&start[..start.len().saturating_sub(3)]).is_ok() => "a text",
        _ => "binary data of an unknown kind",
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
    fn what_is_no_wasm_is_called_by_its_name() {
        for (bytes, found) in [
            (&b""[..], "an empty file"),
            (b"(component)", "WebAssembly text"),
            (b"fn main() {}", "a text"),
            (b"\x7fELF\x02", "a program of this machine (ELF)"),
        ] {
            let error = outline(bytes).unwrap_err();
            assert!(
                matches!(error, LoadError::NotWasm { found: f } if f == found),
                "{error}"
            );
        }
    }

    #[test]
    fn a_core_module_is_told_from_a_component() {
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
    fn a_file_that_is_too_large_or_none_is_refused_before_it_is_read() {
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
