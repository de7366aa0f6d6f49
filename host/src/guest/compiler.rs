//! From a component to machine code: in a child process of the host's own binary, or in this one.
//!
//! In a child, because compiling an interpreter takes seconds, half a gigabyte and both cores: there it has a lower
//! priority, its own bound on memory and a limit of time, and what it took is given back when it ends. Knows bytes in and
//! bytes out; knows no guest, no cache and no file.

mod child;
mod parent;
mod turns;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::Engine;

pub use child::{CompileFault, compile};
pub(super) use turns::Turn;

use super::engine::{Blueprint, Fingerprint, World};
use super::loader::LoadError;
use crate::limits;
use turns::Turns;

/// Where components are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In this process, without a limit of time: for tests, whose binary has no word for compiling.
    #[default]
    InProcess,
    /// In a child process.
    Child {
        /// The host's binary: `/proc/self/exe`, which is this very one even after the file was replaced.
        exe: PathBuf,
    },
}

/// What compiles, a few components at a time.
#[derive(Debug)]
pub(super) struct Compiling {
    compiler: Compiler,
    timeout: Duration,
    turns: Turns,
    is_stopped: AtomicBool,
}

/// An engine as far as compiling goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) engine: &'a Engine,
    pub(super) blueprint: Blueprint,
    pub(super) fingerprint: Fingerprint,
}

impl Compiling {
    pub(super) fn new(compiler: Compiler, timeout: Duration) -> Self {
        Self {
            compiler,
            timeout,
            turns: Turns::new(limits::COMPILES_AT_ONCE_MAX),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Waits until this code may be compiled: until few others are, and nobody compiles the same. Blocks.
    pub(super) fn turn(&self, code: &str) -> Turn<'_> {
        self.turns.take(code)
    }

    /// Compiles a component for an engine. Blocks for as long as that takes, at most the limit of time.
    ///
    /// # Errors
    /// [`LoadError::Unfit`] if the component is at fault, else [`LoadError::NotCompiled`].
    pub(super) fn compile(
        &self,
        component: &[u8],
        target: Target<'_>,
        _turn: &Turn<'_>,
    ) -> Result<Vec<u8>, LoadError> {
        let world = target.blueprint.world;
        match &self.compiler {
            Compiler::InProcess => target
                .engine
                .precompile_component(component)
                .map_err(|error| unfit(world, format!("{error:#}"))),
            Compiler::Child { exe } => {
                let order = parent::Order {
                    exe,
                    blueprint: target.blueprint,
                    fingerprint: target.fingerprint,
                    timeout: self.timeout,
                    is_stopped: &self.is_stopped,
                };
                order.carry_out(component)
            }
        }
    }

    /// Kills the compilers that run and lets no other start: their callers get [`LoadError::NotCompiled`] soon.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

fn unfit(world: World, reason: String) -> LoadError {
    LoadError::Unfit { world, reason }
}
