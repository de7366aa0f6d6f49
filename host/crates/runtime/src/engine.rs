//! The engines that compile and run guests: one for WASI 0.2 and one for 0.3, each with its own pool of instance slots.
//!
//! There are two because support for concurrent tasks costs a 0.2 guest a fifth of its time. Both share one ticker.
//!
//! The wasmtime version is raised every month, with its advisories. Decisions 1 and 2 in `host/docs/decisions` have the reasons
//! for two engines and for the memory that a slot keeps.

pub(crate) mod budget;
pub(crate) mod fair_queue;
pub(crate) mod memory_tally;
pub(crate) mod pagemap;
pub(crate) mod resource_charges;
mod settings;

use std::time::{Duration, Instant};

use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
    Result, WasmBacktraceDetails,
};

use super::engine::budget::{BUDGET, PoolTotals};
use super::settings::RuntimeOptions;
use cloakroom_base::limits;
pub(crate) use settings::{EngineFingerprint, EngineSettings};

/// Interval at which a running guest yields its thread. One millisecond keeps the wait of other guests behind endless loops below 4 ms.
const TICK: Duration = Duration::from_millis(1);
/// Most written memory that a slot keeps resident, in bytes. This part is overwritten for the next instance; the rest is returned to the
/// kernel and faults in again. An interpreter writes about 1 MiB for each request, a small guest 50 KiB. [`limits::WARM_INSTANCES_MAX`]
/// slots of an engine may keep this much, 512 MiB in all, for [`RELEASE_INTERVAL`].
const MEMORY_KEEP_RESIDENT: usize = 2 << 20;
/// Interval at which idle slots return the memory that they keep. A slot overwrites all the memory it keeps, so without this one large
/// request would slow down every later request in the same slot. It also returns the memory of a burst.
const RELEASE_INTERVAL: Duration = Duration::from_secs(10);
/// Most table memory that a slot keeps resident, in bytes.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;
/// Address space of a memory that needs no bounds checks, in bytes: all that 32 bits can address.
const RESERVATION_FULL: u64 = 4 << 30;
/// Guard region after a memory when address space is scarce, in bytes.
const GUARD_COMPACT: u64 = 64 << 10;

/// The version of `wasi:http` that a guest uses. It decides which engine runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestWorld {
    /// `wasi:http/incoming-handler@0.2`.
    Wasi02,
    /// `wasi:http/handler@0.3`.
    Wasi03,
}

impl std::fmt::Display for GuestWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            GuestWorld::Wasi02 => "wasi:http 0.2",
            GuestWorld::Wasi03 => "wasi:http 0.3",
        })
    }
}

/// Creates the engine of a world, with its pool. Also returns the settings that its compiled code depends on.
///
/// Reserves 4 GiB of address space (not memory) for each slot, so that guests need no bounds checks. If the machine does not allow that
/// much, reserves only the memory limit of a guest.
///
/// # Errors
/// Fails if the pool cannot be mapped at all, or if the processor is not supported.
pub(crate) fn engine(
    world: GuestWorld,
    options: &RuntimeOptions,
) -> Result<(Engine, EngineSettings)> {
    let pooled = |engine_settings: EngineSettings| {
        let mut config = config(engine_settings);
        let pool = pool(world, options);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Engine::new(&config).map(|engine| (engine, engine_settings))
    };
    pooled(EngineSettings {
        world,
        reservation: RESERVATION_FULL,
        guard: None,
    })
    .or_else(|error| {
        tracing::info!(%world, %error, "little address space: guests run with bounds checks");
        pooled(EngineSettings {
            world,
            reservation: options.memory_bytes_max.next_multiple_of(64 << 10) as u64,
            guard: Some(GUARD_COMPACT),
        })
    })
}

/// Creates an engine that compiles code for an engine with these settings. It runs nothing and has no pool.
///
/// # Errors
/// Fails if the processor is not supported.
pub(crate) fn compiling_engine(engine_settings: EngineSettings) -> Result<Engine> {
    let mut config = config(engine_settings);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config)
}

fn config(engine_settings: EngineSettings) -> Config {
    let mut config = Config::new();
    config.concurrency_support(engine_settings.world == GuestWorld::Wasi03);
    config.epoch_interruption(true);
    config.memory_reservation(engine_settings.reservation);
    if let Some(guard) = engine_settings.guard {
        config.memory_guard_size(guard);
    }
    // Reports only function names. Reading debug information at each trap would let a guest waste the host's time.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// Returns the pool's configuration. All its totals follow from [`BUDGET`].
fn pool(world: GuestWorld, options: &RuntimeOptions) -> PoolingAllocationConfig {
    let totals = PoolTotals::of(world, options);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(totals.component_instances)
        .total_core_instances(totals.core_instances)
        .total_memories(totals.memories)
        .total_tables(totals.tables)
        .total_stacks(totals.stacks)
        .max_core_instances_per_component(BUDGET.core_instances)
        .max_memories_per_component(BUDGET.memories)
        .max_memories_per_module(BUDGET.memories)
        .max_tables_per_component(BUDGET.tables)
        .max_tables_per_module(BUDGET.tables)
        .max_component_instance_size(BUDGET.instance_bytes)
        .max_core_instance_size(BUDGET.instance_bytes)
        .max_memory_size(options.memory_bytes_max)
        .table_elements(BUDGET.table_elements)
        .max_unused_warm_slots(totals.component_instances.min(limits::WARM_INSTANCES_MAX))
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Starts the thread that makes running guests yield at each tick and idle slots return their memory. The thread ends when all engines are
/// gone.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(crate) fn start_ticker(engines: Vec<EngineWeak>) -> std::io::Result<()> {
    let tick = move || {
        let mut released_at = Instant::now();
        loop {
            std::thread::sleep(TICK);
            let mut alive = false;
            let is_release_due = released_at.elapsed() >= RELEASE_INTERVAL;
            if is_release_due {
                released_at = Instant::now();
            }
            for engine in engines.iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
                if is_release_due {
                    engine.release_idle_pool_memory();
                }
                alive = true;
            }
            if !alive {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("guest-epoch".to_owned())
        .spawn(tick)
        .map(drop)
}
