//! The fault of a refused guest for its operator: the key, the problem and the remedy.

use crate::config::Fault;
use crate::guest::{AdmissionError, LoadError};

/// The fault of the guest of this name.
pub(super) fn fault(guest: &str, error: &AdmissionError) -> Fault {
    let (key, remedy) = match error {
        AdmissionError::Load(error) => (key(error), remedy(guest, error)),
        AdmissionError::Probe { .. } => (
            "probe",
            "name a path that the guest answers below 500, or correct the guest".to_owned(),
        ),
        AdmissionError::Stale(_) | AdmissionError::Host(_) => ("component", "try again".to_owned()),
    };
    Fault::new(format!("guest.{guest}.{key}"), error.to_string(), remedy)
}

/// The guest's key that the remedy changes.
fn key(error: &LoadError) -> &'static str {
    match error {
        LoadError::MemoryTooSmall { .. }
        | LoadError::MemoryRefused { .. }
        | LoadError::Settings { .. } => "limits.memory",
        _ => "component",
    }
}

fn remedy(guest: &str, error: &LoadError) -> String {
    let memory = format!("guest.{guest}.limits.memory");
    let fixed = match error {
        LoadError::MemoryTooSmall { needed, .. } => {
            // The declared size is that of the start: the guest takes more while it works.
            let least = needed.div_ceil(1 << 20);
            return format!(
                "raise {memory} above {least}MiB: the guest needs more than that while it works"
            );
        }
        LoadError::MemoryRefused { .. } => return format!("raise {memory}"),
        LoadError::Settings { .. } => {
            return format!("restart the host, which makes room for it, or lower {memory}");
        }
        LoadError::NotInstantiable { .. } => {
            return format!(
                "correct what the component does when an instance of it is made; guest.{guest}.limits.deadline bounds how long \
                 that may take"
            );
        }
        LoadError::Unreadable { .. } => {
            "name a file that the host's user may read; a relative path starts at the folder of the configuration file"
        }
        LoadError::NotAFile { .. } => "name the file of a component, not a folder or a device",
        LoadError::TooLarge { .. } => {
            "leave out what it does not need to run, such as debug information (`wasm-tools strip`)"
        }
        LoadError::Changing { .. } => "try again when the file is complete",
        LoadError::CoreModule => "name the file of the component that is made of the module",
        LoadError::Damaged { .. } => "build the component again, or copy its file again",
        LoadError::NotWasm { .. } | LoadError::NotAHandler { .. } => {
            "name the file of a component that handles HTTP"
        }
        LoadError::UnknownImports { .. } => "build the component without these imports",
        LoadError::Outdated { .. } => {
            "take the SDK and the `wit` folder from a project that `cloakroom new` of this version writes, then build the component again"
        }
        LoadError::Unfit { .. } => {
            "build the component for what this host offers: `cloakroom inspect` shows what it imports"
        }
        LoadError::BeyondBudget { .. } => "build it so; this share is fixed, no key changes it",
        LoadError::NotCompiled { .. } => {
            "try again when the machine has more memory and time to spare, or raise server.compile_timeout"
        }
    };
    fixed.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::World;

    #[test]
    fn a_memory_limit_below_what_a_component_declares_is_told_with_both_figures() {
        let error = AdmissionError::Load(LoadError::MemoryTooSmall {
            needed: 1_114_112,
            bytes_max: 524_288,
        });
        let fault = fault("a", &error);
        assert_eq!(fault.key, "guest.a.limits.memory");
        for part in ["1114112 bytes", "524288 bytes"] {
            assert!(fault.problem.contains(part), "{fault}");
        }
        assert!(
            fault
                .remedy
                .contains("raise guest.a.limits.memory above 2MiB"),
            "{fault}"
        );
    }

    #[test]
    fn each_refusal_has_the_key_and_the_remedy_of_its_own_problem() {
        let world = World::Wasi02;
        let reason = String::new;
        let cases = [
            (
                LoadError::MemoryRefused {
                    world,
                    bytes_max: 1,
                },
                "limits.memory",
                "raise guest.a.limits.memory",
            ),
            (
                LoadError::Settings { reason: reason() },
                "limits.memory",
                "restart",
            ),
            (
                LoadError::NotCompiled { reason: reason() },
                "component",
                "server.compile_timeout",
            ),
            (
                LoadError::NotInstantiable {
                    world,
                    reason: reason(),
                },
                "component",
                "guest.a.limits.deadline",
            ),
            (LoadError::CoreModule, "component", "the module"),
            (
                LoadError::Outdated {
                    imports: Vec::new(),
                },
                "component",
                "`cloakroom new` of this version",
            ),
            (
                LoadError::NotAHandler {
                    what: "no HTTP handler",
                    exports: Vec::new(),
                },
                "component",
                "a component that handles HTTP",
            ),
        ];
        for (error, key, remedy) in cases {
            let fault = fault("a", &AdmissionError::Load(error));
            assert_eq!(fault.key, format!("guest.a.{key}"));
            assert!(fault.remedy.contains(remedy), "{fault}");
        }
        let probe = AdmissionError::Probe {
            path: "/x".to_owned(),
            reason: reason(),
        };
        assert_eq!(fault("a", &probe).key, "guest.a.probe");
    }
}
