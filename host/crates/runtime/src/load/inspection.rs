//! Reads the information that `cloakroom inspect` shows from a component's file, without compiling or running the component. This module
//! knows no grants.

use std::ops::Range;
use std::path::Path;

use wasmparser::{BinaryReaderError, KnownCustom, Parser, Payload};

use super::digest::ComponentDigest;
use super::loader::{self, ComponentInfo, LoadError};

/// Most tools that are reported for one component, so that a component with more names cannot fill the screen.
const TOOLS_MAX: usize = 64;

/// The result of inspecting a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentInspection {
    /// The information that listings show.
    pub component: ComponentInfo,
    /// The composition of its size.
    pub parts: SectionBytes,
    /// The tools that it claims to be made with.
    pub tools: Vec<ProducerField>,
}

/// The sizes of a component's parts, each summed over all modules in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SectionBytes {
    /// Number of core modules in it.
    pub modules: usize,
    /// Bytes of code.
    pub code: u64,
    /// Bytes of data. If the guest was initialized when it was built, most of this is the interpreter's memory at that time.
    pub data: u64,
    /// Bytes of names and debug information, which are not needed to run it.
    pub custom: u64,
    /// All other bytes.
    pub other: u64,
}

/// A tool or a language that a `producers` section names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerField {
    /// The role: `language`, `processed-by` or `sdk`.
    pub role: String,
    /// The name of the tool.
    pub name: String,
    /// The version of the tool; may be empty.
    pub version: String,
}

/// Reads a component's file and inspects it.
///
/// # Errors
/// [`LoadError`] if the file cannot be read, is not a component, or is not an HTTP handler.
pub fn inspect(path: &Path) -> Result<(Vec<u8>, ComponentInspection), LoadError> {
    let bytes = loader::read(path)?;
    let inspection = look_at(&bytes)?;
    Ok((bytes, inspection))
}

pub(crate) fn look_at(bytes: &[u8]) -> Result<ComponentInspection, LoadError> {
    let outline = loader::outline(bytes)?;
    let (parts, tools) = parse_sections(bytes).map_err(|error| LoadError::Damaged {
        reason: error.to_string(),
    })?;
    let component = ComponentInfo {
        digest: ComponentDigest::of(bytes),
        bytes: bytes.len() as u64,
        world: outline.world,
        imports: outline.imports,
        exports: outline.exports,
    };
    Ok(ComponentInspection {
        component,
        parts,
        tools,
    })
}

fn size(range: Range<u64>) -> u64 {
    range.end - range.start
}

fn parse_sections(bytes: &[u8]) -> Result<(SectionBytes, Vec<ProducerField>), BinaryReaderError> {
    let mut parts = SectionBytes::default();
    let mut tools = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } => parts.modules += 1,
            Payload::CodeSectionStart { size, .. } => parts.code += u64::from(size),
            Payload::DataSection(section) => parts.data += size(section.range()),
            Payload::CustomSection(section) => {
                parts.custom += size(section.range());
                // A malformed section is ignored: it does not decide whether a component runs.
                if let KnownCustom::Producers(fields) = section.as_known() {
                    // Reads the fields one by one, because a small file may name millions.
                    for tool in fields.into_iter().flatten().flat_map(producers) {
                        if tools.len() < TOOLS_MAX && !tools.contains(&tool) {
                            tools.push(tool);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    let counted = parts.code + parts.data + parts.custom;
    parts.other = (bytes.len() as u64).saturating_sub(counted);
    Ok((parts, tools))
}

fn producers(field: wasmparser::ProducersField<'_>) -> impl Iterator<Item = ProducerField> {
    let role = field.name.to_owned();
    let values = field.values.into_iter().flatten();
    values.map(move |value| ProducerField {
        role: role.clone(),
        name: value.name.to_owned(),
        version: value.version.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GuestWorld;

    #[test]
    fn the_parts_of_a_component_add_up_to_its_size() {
        let text = r#"(component
            (core module (memory 1) (data (i32.const 0) "abcdefgh") (func (export "f") nop))
            (component $handler)
            (instance $i (instantiate $handler))
            (export "wasi:http/incoming-handler@0.2.10" (instance $i))
        )"#;
        let bytes = wat::parse_str(text).unwrap();
        let ComponentInspection {
            component, parts, ..
        } = look_at(&bytes).unwrap();
        assert_eq!(component.world, GuestWorld::Wasi02);
        assert_eq!(component.bytes, bytes.len() as u64);
        assert_eq!(parts.modules, 1);
        assert!(parts.data > 8 && parts.code > 2, "{parts:?}");
        let sum = parts.code + parts.data + parts.custom + parts.other;
        assert_eq!(sum, component.bytes, "{parts:?}");
    }

    #[test]
    fn each_producer_of_a_component_is_listed_once() {
        let producers = |field: &str, name: &str, version: &str| {
            let text = |text: &str| format!("\\{:02x}{text}", text.len());
            format!("\\01{}\\01{}{}", text(field), text(name), text(version))
        };
        let rust = producers("language", "Rust", "");
        let module = format!("(core module (@custom \"producers\" \"{rust}\"))");
        let sdk = producers("sdk", "wit-bindgen", "0.61.1");
        let text = format!("(component {module} {module} (@custom \"producers\" \"{sdk}\"))");
        let bytes = wat::parse_str(text).unwrap();
        let (_, tools) = parse_sections(&bytes).unwrap();
        let producers: Vec<_> = tools
            .iter()
            .map(|tool| [&*tool.role, &*tool.name, &*tool.version])
            .collect();
        assert_eq!(
            producers,
            [["language", "Rust", ""], ["sdk", "wit-bindgen", "0.61.1"]]
        );
    }

    #[test]
    fn a_million_tools_are_not_held_in_memory() {
        let values = 1_000_000;
        let mut section = vec![9];
        section.extend_from_slice(b"producers\x01\x03sdk");
        section.extend_from_slice(&leb128(values));
        for number in 0..values {
            section.extend_from_slice(&[3]);
            section.extend_from_slice(&number.to_le_bytes().map(|byte| byte & 0x7f)[..3]);
            section.push(0);
        }
        let mut bytes = b"\0asm\x0d\0\x01\0\0".to_vec();
        bytes.extend_from_slice(&leb128(section.len() as u32));
        bytes.extend_from_slice(&section);
        let (_, tools) = parse_sections(&bytes).unwrap();
        assert_eq!(tools.len(), TOOLS_MAX);
    }

    fn leb128(mut number: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }
}
