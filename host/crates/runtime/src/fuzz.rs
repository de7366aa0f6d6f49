//! The fuzz target for component files: properties that must hold for every file before any of it is compiled.

use super::load::inspection;
use super::load::inspection::ComponentInspection;
use super::load::loader;

/// Largest total length of the roles, names and versions of the tools that one component reports, in bytes.
const TOOLS_BYTES_MAX: usize = 64 << 10;

/// Runs the fuzz target `component`.
pub fn component(bytes: &[u8]) {
    let outline = loader::outline(bytes);
    let inspected = inspection::look_at(bytes);
    let (outline, inspection) = match (outline, inspected) {
        (Ok(outline), Ok(inspection)) => (outline, inspection),
        (Err(error), Err(other)) => {
            assert_eq!(error.to_string(), other.to_string());
            return;
        }
        // The outermost names are readable, but a section that they do not depend on is not.
        (Ok(_), Err(_)) => return,
        (Err(error), Ok(_)) => panic!("inspected, but not a component: {error}"),
    };
    let ComponentInspection {
        component,
        parts,
        tools,
    } = inspection;
    assert_eq!(component.bytes, bytes.len() as u64);
    assert_eq!(component.imports, outline.imports);
    assert_eq!(component.exports, outline.exports);
    let names = component.imports.iter().chain(&component.exports);
    let names: usize = names.map(String::len).sum();
    assert!(names <= bytes.len(), "names that are not in the file");
    let unknown = outline.unknown_imports();
    assert!(unknown.iter().all(|name| outline.imports.contains(name)));
    let counted = parts.code + parts.data + parts.custom;
    assert_eq!(counted + parts.other, component.bytes, "{parts:?}");
    assert!(parts.modules <= bytes.len());
    let reported: usize = tools
        .iter()
        .map(|tool| tool.role.len() + tool.name.len() + tool.version.len())
        .sum();
    assert!(
        reported <= TOOLS_BYTES_MAX,
        "{reported} bytes are reported about tools"
    );
}
