//! Counts the pool resources that an instance of a component takes, from the component's file alone.

use wasmparser::{
    BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, Instance, MemoryType, Parser, Payload,
};

/// Adds without overflow, whatever numbers a file claims.
fn add(count: &mut u32, more: u32) {
    *count = count.saturating_add(more);
}

/// The pool resources of one instance of a component, inner components included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ComponentNeed {
    pub(crate) core_instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    /// Inner components that have functions of their own.
    pub(crate) tasking: u32,
    /// Bytes of its linear memories at the start. The instance uses at least this many.
    pub(crate) memory_bytes: u64,
}

impl ComponentNeed {
    // Saturates: a file of a few bytes can name a component with two instances of a second one, which has two of a third one, and so on.
    fn add(&mut self, other: Self) {
        add(&mut self.core_instances, other.core_instances);
        add(&mut self.memories, other.memories);
        add(&mut self.tables, other.tables);
        add(&mut self.tasking, other.tasking);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
    }

    fn or_more(self, other: Self) -> Self {
        Self {
            core_instances: self.core_instances.max(other.core_instances),
            memories: self.memories.max(other.memories),
            tables: self.tables.max(other.tables),
            tasking: self.tasking.max(other.tasking),
            // The counts are upper bounds, so they take the larger of the two cases. This is a lower bound, so it takes the case without
            // memories.
            memory_bytes: 0,
        }
    }
}

/// Returns the size of a memory at the start, in bytes. A page has 64 KiB unless the memory says otherwise.
fn start_bytes(memory: &MemoryType) -> u64 {
    let page_bytes = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16));
    memory
        .initial
        .saturating_mul(page_bytes.unwrap_or(u64::MAX))
}

/// A module or component that is being parsed.
#[derive(Default)]
struct ParseFrame {
    need: ComponentNeed,
    has_functions: bool,
    modules: Vec<ComponentNeed>,
    components: Vec<ComponentNeed>,
}

#[derive(Clone, Copy)]
enum ModuleSort {
    Module,
    Component,
}

/// Counts the pool resources that an instance of a component takes. A definition that the file does not identify, such as an inner
/// component that is passed as an argument, counts as the largest one that the file has defined so far.
///
/// # Errors
/// Fails if the file is damaged.
pub(crate) fn need(bytes: &[u8]) -> Result<ComponentNeed, BinaryReaderError> {
    let mut counting = NeedCounter::default();
    for payload in Parser::new(0).parse_all(bytes) {
        counting.take(payload?)?;
    }
    Ok(counting.result)
}

#[derive(Default)]
struct NeedCounter {
    frames: Vec<(ModuleSort, ParseFrame)>,
    /// The largest module or component so far.
    largest: ComponentNeed,
    result: ComponentNeed,
}

impl NeedCounter {
    fn take(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::Version { encoding, .. } => {
                let sort = match encoding {
                    Encoding::Module => ModuleSort::Module,
                    Encoding::Component => ModuleSort::Component,
                };
                self.frames.push((sort, ParseFrame::default()));
            }
            Payload::End(_) => self.close(),
            Payload::MemorySection(section) => {
                self.top(|it| add(&mut it.need.memories, section.count()));
                for memory in section {
                    let bytes = start_bytes(&memory?);
                    self.top(|it| {
                        it.need.memory_bytes = it.need.memory_bytes.saturating_add(bytes);
                    });
                }
            }
            Payload::TableSection(section) => {
                self.top(|it| add(&mut it.need.tables, section.count()))
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.instantiate(ModuleSort::Module, module_index);
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    if let ComponentInstance::Instantiate {
                        component_index, ..
                    } = instance?
                    {
                        self.instantiate(ModuleSort::Component, component_index);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    let is_lifted = matches!(function?, CanonicalFunction::Lift { .. });
                    self.top(|it| it.has_functions |= is_lifted);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.import(import?.ty);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(alias?);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.export(export.kind, export.index);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, kind: ComponentTypeRef) {
        match kind {
            ComponentTypeRef::Module(_) => self.name_unknown(ModuleSort::Module),
            ComponentTypeRef::Component(_) => self.name_unknown(ModuleSort::Component),
            _ => {}
        }
    }

    fn export(&mut self, kind: ComponentExternalKind, index: u32) {
        match kind {
            ComponentExternalKind::Module => self.rename(ModuleSort::Module, index),
            ComponentExternalKind::Component => self.rename(ModuleSort::Component, index),
            _ => {}
        }
    }

    fn top(&mut self, change: impl FnOnce(&mut ParseFrame)) {
        if let Some((_, frame)) = self.frames.last_mut() {
            change(frame);
        }
    }

    /// Ends the module or component that is being parsed.
    fn close(&mut self) {
        let Some((sort, mut frame)) = self.frames.pop() else {
            return;
        };
        match sort {
            ModuleSort::Module => frame.need.core_instances = 1,
            ModuleSort::Component => {
                add(&mut frame.need.tasking, u32::from(frame.has_functions));
            }
        }
        self.largest = self.largest.or_more(frame.need);
        if self.frames.is_empty() {
            self.result = frame.need;
        }
        self.name(sort, frame.need);
    }

    /// Assigns the next index of its sort to a module or component.
    fn name(&mut self, sort: ModuleSort, need: ComponentNeed) {
        self.top(|frame| match sort {
            ModuleSort::Module => frame.modules.push(need),
            ModuleSort::Component => frame.components.push(need),
        });
    }

    fn name_unknown(&mut self, sort: ModuleSort) {
        self.name(sort, self.largest);
    }

    fn rename(&mut self, sort: ModuleSort, index: u32) {
        let need = self.of(0, sort, index);
        self.name(sort, need);
    }

    fn alias(&mut self, alias: ComponentAlias<'_>) {
        match alias {
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Module,
                ..
            } => {
                self.name_unknown(ModuleSort::Module);
            }
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Component,
                ..
            } => {
                self.name_unknown(ModuleSort::Component);
            }
            ComponentAlias::Outer { kind, count, index } => {
                let sort = match kind {
                    ComponentOuterAliasKind::CoreModule => ModuleSort::Module,
                    ComponentOuterAliasKind::Component => ModuleSort::Component,
                    _ => return,
                };
                let need = self.of(count, sort, index);
                self.name(sort, need);
            }
            _ => {}
        }
    }

    /// Returns the need of the definition at an index, `outwards` components further out.
    fn of(&self, outwards: u32, sort: ModuleSort, index: u32) -> ComponentNeed {
        let frame = self.frames.iter().rev().nth(outwards as usize);
        let needs = frame.map(|(_, frame)| match sort {
            ModuleSort::Module => &frame.modules,
            ModuleSort::Component => &frame.components,
        });
        let need = needs.and_then(|needs| needs.get(index as usize));
        // An index that names nothing is left to the compiler to refuse.
        need.copied().unwrap_or(self.largest)
    }

    fn instantiate(&mut self, sort: ModuleSort, index: u32) {
        let need = self.of(0, sort, index);
        self.top(|frame| frame.need.add(need));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> ComponentNeed {
        need(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn instances_are_counted_and_definitions_are_not() {
        let need = counted(
            r#"(component
                (core module $m (memory 1) (memory 1) (table 1 funcref) (func (export "f")))
                (core module $unused (memory 1))
                (core instance $i (instantiate $m))
                (core instance (instantiate $m))
                (core instance (export "g" (func $i "f")))
                (func (canon lift (core func $i "f")))
            )"#,
        );
        assert_eq!(
            need,
            ComponentNeed {
                core_instances: 2,
                memories: 4,
                tables: 2,
                tasking: 1,
                memory_bytes: 4 << 16,
            }
        );
    }

    #[test]
    fn inner_components_count_as_often_as_they_are_instantiated() {
        let need = counted(
            r#"(component
                (core module $m (memory 1))
                (component $inner
                    (alias outer 1 $m (core module $mine))
                    (core instance (instantiate $mine))
                    (core instance (instantiate $mine)))
                (component $outer
                    (alias outer 1 $inner (component $a))
                    (instance (instantiate $a))
                    (instance (instantiate $a))
                    (export "again" (component $a)))
                (instance $o (instantiate $outer))
                (alias export $o "again" (component $b))
                (instance (instantiate $b))
            )"#,
        );
        // Six by $outer's instances. An export of an instance counts as the largest definition, which is $outer.
        assert_eq!(
            (need.core_instances, need.memories, need.tasking),
            (8, 8, 0)
        );
        assert_eq!(need.memory_bytes, 4 << 16, "those of $outer alone");
    }

    #[test]
    fn exponentially_nested_components_are_counted_without_expansion() {
        let doubled = |n: u32| {
            let inner = format!("(alias outer 1 $c{n} (component $c))");
            let twice = "(instance (instantiate $c)) (instance (instantiate $c))";
            format!("(component $c{} {inner} {twice})\n", n + 1)
        };
        let lines: String = (0..100).map(doubled).collect();
        let first = "(component $c0 (core module $m (memory 1)) (core instance (instantiate $m)))";
        let need = counted(&format!(
            "(component {first} {lines} (instance (instantiate $c100)))"
        ));
        assert_eq!((need.core_instances, need.memories), (u32::MAX, u32::MAX));
    }
}
