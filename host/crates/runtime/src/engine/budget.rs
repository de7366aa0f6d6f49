//! The budget of one component: the most that it may take from an engine's pool. The pool's totals follow from it.
//!
//! Each total is the number of instances that may exist at once times the budget of one instance. So no component can take a slot from
//! another one. `load` refuses a component that needs more than its budget before it is compiled.

use super::GuestWorld;
use crate::settings::RuntimeOptions;

/// Instances that are created before a request asks for them. There are none today, but the totals count them.
const MADE_AHEAD_MAX: usize = 0;
/// Candidates that may create their first instance at the same time, in addition to all serving instances. Further candidates wait.
pub(crate) const DEPLOYS_AT_ONCE_MAX: usize = 4;
/// Largest number of running instances, and of idle instances, that the concurrency limits accept.
const INSTANCES_MAX: usize = 1 << 16;

/// The most that one component may use, inner components included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ComponentBudget {
    /// Instances of core modules. An interpreter with dynamic libraries has about 40.
    pub(crate) core_instances: u32,
    /// Linear memories. Each takes up to 4 GiB of address space.
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    /// Elements of one table. A Python interpreter has about 10,000.
    pub(crate) table_elements: usize,
    /// Inner components with functions of their own. In WASI 0.3 each may have a waiting task with its own stack.
    pub(crate) tasking: u32,
    /// Bytes that wasmtime keeps for all core instances together, and also for one of them.
    pub(crate) instance_bytes: usize,
}

/// The budget of every component.
pub(crate) const BUDGET: ComponentBudget = ComponentBudget {
    core_instances: 64,
    memories: 4,
    tables: 8,
    table_elements: 20_000,
    tasking: 3,
    instance_bytes: 1 << 20,
};

impl ComponentBudget {
    /// Returns the number of stacks that one component may use at once.
    ///
    /// WASI 0.2 runs one call at a time, on one stack. In 0.3 an inner component cannot be entered while one of its calls of an
    /// asynchronous function is on a stack, so one such call may wait in each inner component. In addition there may be one call of a
    /// synchronous function, which cannot wait. The engine also keeps the stack of an idle worker and the stack that was used last.
    pub(crate) const fn stacks(&self, world: GuestWorld) -> u32 {
        match world {
            GuestWorld::Wasi02 => 1,
            GuestWorld::Wasi03 => 2 * self.tasking + 2,
        }
    }
}

/// Numbers of instances of an engine that may exist at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstanceCounts {
    /// Instances that serve a request.
    pub(crate) running: usize,
    /// Idle instances that wait for another request.
    pub(crate) idle: usize,
}

impl InstanceCounts {
    pub(crate) fn of(options: &RuntimeOptions) -> Self {
        Self {
            running: options.instances_max.clamp(1, INSTANCES_MAX),
            idle: options.idle_instances_max.min(INSTANCES_MAX),
        }
    }

    /// Returns the sum. An instance is either running or idle, so none is counted twice.
    fn total(self) -> usize {
        self.running + self.idle + MADE_AHEAD_MAX + DEPLOYS_AT_ONCE_MAX
    }
}

/// The totals of an engine's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolTotals {
    pub(crate) component_instances: u32,
    pub(crate) core_instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    pub(crate) stacks: u32,
}

impl PoolTotals {
    pub(crate) fn of(world: GuestWorld, options: &RuntimeOptions) -> Self {
        // At most 2^17 and a few, so the products fit.
        let instances = u32::try_from(InstanceCounts::of(options).total()).unwrap_or(u32::MAX);
        let times = |most: u32| instances.saturating_mul(most);
        Self {
            component_instances: instances,
            core_instances: times(BUDGET.core_instances),
            memories: times(BUDGET.memories),
            tables: times(BUDGET.tables),
            stacks: times(BUDGET.stacks(world)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns options with instance numbers over the whole accepted range, in steps, with both ends and values outside the range.
    fn options() -> impl Iterator<Item = RuntimeOptions> {
        let numbers = [
            0,
            1,
            2,
            3,
            64,
            256,
            1000,
            4096,
            65_535,
            65_536,
            65_537,
            usize::MAX,
        ];
        numbers.into_iter().flat_map(move |instances_max| {
            numbers
                .into_iter()
                .map(move |idle_instances_max| RuntimeOptions {
                    instances_max,
                    idle_instances_max,
                    ..RuntimeOptions::default()
                })
        })
    }

    #[test]
    fn the_needs_of_all_instances_fit_the_pool_totals() {
        for options in options() {
            let InstanceCounts { running, idle } = InstanceCounts::of(&options);
            let all = (running + idle + MADE_AHEAD_MAX + DEPLOYS_AT_ONCE_MAX) as u64;
            for world in [GuestWorld::Wasi02, GuestWorld::Wasi03] {
                let totals = PoolTotals::of(world, &options);
                let uses = [
                    (totals.component_instances, 1),
                    (totals.core_instances, BUDGET.core_instances),
                    (totals.memories, BUDGET.memories),
                    (totals.tables, BUDGET.tables),
                    (totals.stacks, BUDGET.stacks(world)),
                ];
                for (total, most) in uses {
                    assert!(
                        all * u64::from(most) <= u64::from(total),
                        "{world}, {running} running, {idle} parked: {all} times {most} is more than {total}"
                    );
                }
            }
        }
    }
}
