//! Refuses components that need more of an engine's pool than one component may take.

use super::loader::LoadError;
use super::need::ComponentNeed;
use crate::engine::GuestWorld;
use crate::engine::budget::BUDGET;

/// Refuses a component that needs more than [`BUDGET`]. Its memory is checked separately, by [`check_memory`], against the guest's
/// limit.
///
/// # Errors
/// [`LoadError::BeyondBudget`].
pub(crate) fn check(world: GuestWorld, need: ComponentNeed) -> Result<(), LoadError> {
    let share = "let its modules share what they have, or put less into one component";
    let compose = "compose fewer components into one";
    // In WASI 0.2 all inner components share one stack.
    let tasking = match world {
        GuestWorld::Wasi02 => 0,
        GuestWorld::Wasi03 => need.tasking,
    };
    let counts = [
        (need.memories, BUDGET.memories, "linear memories", share),
        (need.tables, BUDGET.tables, "tables", share),
        (
            need.core_instances,
            BUDGET.core_instances,
            "instances of core modules",
            compose,
        ),
        (
            tasking,
            BUDGET.tasking,
            "inner components with functions",
            compose,
        ),
    ];
    match counts.into_iter().find(|(count, most, ..)| count > most) {
        Some((count, most, what, remedy)) => Err(LoadError::BeyondBudget {
            count,
            most,
            what,
            remedy,
        }),
        None => Ok(()),
    }
}

/// Refuses a component whose memories start larger than the guest's memory limit.
///
/// # Errors
/// [`LoadError::MemoryTooSmall`].
pub(crate) fn check_memory(need: ComponentNeed, bytes_max: usize) -> Result<(), LoadError> {
    let needed = need.memory_bytes;
    match needed > bytes_max as u64 {
        true => Err(LoadError::MemoryTooSmall { needed, bytes_max }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_above_the_budget_is_refused_with_its_need() {
        let at = ComponentNeed {
            core_instances: BUDGET.core_instances,
            memories: BUDGET.memories,
            tables: BUDGET.tables,
            tasking: BUDGET.tasking,
            memory_bytes: 0,
        };
        assert!(check(GuestWorld::Wasi03, at).is_ok());
        let above: [(ComponentNeed, &str); 4] = [
            (
                ComponentNeed {
                    core_instances: at.core_instances + 1,
                    ..at
                },
                "65 instances of core modules",
            ),
            (
                ComponentNeed {
                    memories: at.memories + 1,
                    ..at
                },
                "5 linear memories",
            ),
            (
                ComponentNeed {
                    tables: at.tables + 1,
                    ..at
                },
                "9 tables",
            ),
            (
                ComponentNeed {
                    tasking: at.tasking + 1,
                    ..at
                },
                "4 inner components with functions",
            ),
        ];
        for (need, named) in above {
            let text = check(GuestWorld::Wasi03, need).unwrap_err().to_string();
            assert!(text.contains(named), "{text}");
        }
    }
}
