//! Converts the error for a refused guest into a fault for the operator: the key, the problem and the remedy.

use crate::config::ConfigFault;
use cloakroom_runtime::{DeployError, LoadError};

/// Returns the fault for the guest of the given name.
pub(crate) fn fault(guest: &str, error: &DeployError) -> ConfigFault {
    let (key, remedy) = match error {
        DeployError::Load(error) => (key(error), remedy(guest, error)),
        DeployError::Probe { .. } => (
            "probe",
            "name a path that the guest answers below 500, or correct the guest".to_owned(),
        ),
        DeployError::Stale(_) | DeployError::Host(_) => ("component", "try again".to_owned()),
    };
    ConfigFault::new(format!("guest.{guest}.{key}"), error.to_string(), remedy)
}

/// Returns the configuration key of the guest that the remedy changes.
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
            // The declared size is the memory at the start. The guest takes more while it works.
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
                "correct the code that the component runs when an instance is created; guest.{guest}.limits.deadline bounds how long \
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
        LoadError::CoreModule => "name the file of the component that is built from the module",
        LoadError::Damaged { .. } => "build the component again, or copy its file again",
        LoadError::NotWasm { .. } | LoadError::NotAHandler { .. } => {
            "name the file of a component that handles HTTP"
        }
        LoadError::UnknownImports { .. } => "build the component without these imports",
        LoadError::Outdated { .. } => {
            "take the SDK and the `wit` folder from a project that `cloakroom new` of this version writes, then build the component again"
        }
        LoadError::Unfit { .. } => {
            "build the component for the interfaces of this host: `cloakroom inspect` shows its imports"
        }
        LoadError::BeyondBudget { .. } => {
            "build it this way; the limit is fixed, and no key changes it"
        }
        LoadError::NotCompiled { .. } => {
            "try again when the machine has more memory and time to spare, or raise server.compile_timeout"
        }
    };
    fixed.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_runtime::GuestWorld;

    #[test]
    fn a_memory_limit_below_the_declared_memory_is_refused_with_both_sizes() {
        let error = DeployError::Load(LoadError::MemoryTooSmall {
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
        let world = GuestWorld::Wasi02;
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
                    what: "not an HTTP handler",
                    exports: Vec::new(),
                },
                "component",
                "a component that handles HTTP",
            ),
        ];
        for (error, key, remedy) in cases {
            let fault = fault("a", &DeployError::Load(error));
            assert_eq!(fault.key, format!("guest.a.{key}"));
            assert!(fault.remedy.contains(remedy), "{fault}");
        }
        let probe = DeployError::Probe {
            path: "/x".to_owned(),
            reason: reason(),
        };
        assert_eq!(fault("a", &probe).key, "guest.a.probe");
    }
}
