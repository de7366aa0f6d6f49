//! Compiles components to machine code, in a child process of the host's own binary or in this process.
//!
//! A child is used because compiling an interpreter takes seconds, half a gigabyte of memory and both cores. The child has a lower
//! priority, its own memory limit and a time limit, and its memory is freed when it ends. This module takes bytes and returns bytes. It
//! knows no guest, no cache and no file.
//!
//! The child is started through `/proc/self/exe`, so it is this very binary even after the file was replaced. No other process
//! makes code that the host runs. Decision 3 in `host/docs/decisions` has the reasons.

mod child;
mod limit;
mod parent;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::Engine;

pub use child::{CompileError, compile};
pub(crate) use limit::CompilePermit;

use super::loader::LoadError;
use crate::engine::{EngineFingerprint, EngineSettings, GuestWorld};
use crate::settings::Compiler;
use cloakroom_base::limits;
use limit::CompileLimit;

/// The compiler. It compiles a few components at a time.
#[derive(Debug)]
pub(crate) struct CompilerPool {
    compiler: Compiler,
    timeout: Duration,
    limit: CompileLimit,
    is_stopped: AtomicBool,
}

/// The engine settings that compiling needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompileTarget<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) engine_settings: EngineSettings,
    pub(crate) fingerprint: EngineFingerprint,
}

impl CompilerPool {
    pub(crate) fn new(compiler: Compiler, timeout: Duration) -> Self {
        Self {
            compiler,
            timeout,
            limit: CompileLimit::new(limits::COMPILES_AT_ONCE_MAX),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Waits until few enough other compilations are running and none of them compiles the same code. Blocks.
    pub(crate) fn permit(&self, code: &str) -> CompilePermit<'_> {
        self.limit.take(code)
    }

    /// Compiles a component for an engine. Blocks until it is done, at most for the time limit.
    ///
    /// # Errors
    /// [`LoadError::Unfit`] if the component is faulty, else [`LoadError::NotCompiled`].
    pub(crate) fn compile(
        &self,
        component: &[u8],
        target: CompileTarget<'_>,
        _permit: &CompilePermit<'_>,
    ) -> Result<Vec<u8>, LoadError> {
        let world = target.engine_settings.world;
        match &self.compiler {
            Compiler::InProcess => target
                .engine
                .precompile_component(component)
                .map_err(|error| unfit(world, format!("{error:#}"))),
            Compiler::Child { exe } => {
                let order = parent::CompileJob {
                    exe,
                    engine_settings: target.engine_settings,
                    fingerprint: target.fingerprint,
                    timeout: self.timeout,
                    is_stopped: &self.is_stopped,
                };
                order.carry_out(component)
            }
        }
    }

    /// Kills running compilers and lets no other start. Their callers soon get [`LoadError::NotCompiled`].
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

fn unfit(world: GuestWorld, reason: String) -> LoadError {
    LoadError::Unfit { world, reason }
}
