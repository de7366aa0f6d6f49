//! The child's side of compiling in a child: the process that a host starts with a hidden word of its command line.
//!
//! Reads a component from standard input and writes machine code to standard output. What it says on standard error
//! becomes the host's reason, so it says it in the host's words.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::str::FromStr;

use rustix::process::{Resource, Rlimit, Signal};

use crate::guest::engine::{self, Blueprint, Fingerprint};
use crate::limits;

/// The exit code of a child whose component is at fault.
pub(super) const EXIT_COMPONENT_AT_FAULT: u8 = 3;
/// The exit code of a child that could not do its work.
const EXIT_FAILED: u8 = 1;
/// How far a child stands behind the host when both want the processor.
const NICENESS: i32 = 10;

/// What a child is told on its command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The process that wants the code.
    pub(super) parent: u32,
    pub(super) blueprint: Blueprint,
    /// That of the engine which is to run the code.
    pub(super) fingerprint: String,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.parent, self.blueprint, self.fingerprint)
    }
}

impl FromStr for Recipe {
    type Err = CompileFault;

    fn from_str(text: &str) -> Result<Self, CompileFault> {
        let foreign =
            || CompileFault::failed("this command is the host's own: it starts it itself");
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or_else(foreign);
        Ok(Self {
            parent: part()?.parse().map_err(|_| foreign())?,
            blueprint: part()?.parse().map_err(|_| foreign())?,
            fingerprint: part()?.to_owned(),
        })
    }
}

/// Why a child made no code.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct CompileFault {
    reason: String,
    exit_code: u8,
}

impl CompileFault {
    fn failed(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            exit_code: EXIT_FAILED,
        }
    }

    fn foreign() -> Self {
        Self::failed("this command is the host's own: it starts it itself")
    }

    /// What the process ends with, so that its parent knows whose fault it was.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// The work of a child process: compiles the component on standard input to standard output, as `recipe` says.
///
/// To be called first thing in a process, before there are threads: it lowers its priority, bounds its memory and makes
/// sure that it ends with its parent.
///
/// # Errors
/// What is wrong with the component, the recipe or the machine; to be said on standard error.
pub fn compile(recipe: &str) -> Result<(), CompileFault> {
    let recipe: Recipe = recipe.parse()?;
    settle_in(recipe.parent)?;
    let world = recipe.blueprint.world;
    let engine = engine::compiling_engine(recipe.blueprint)
        .map_err(|error| CompileFault::failed(format!("{error:#}")))?;
    if Fingerprint::of(&engine, world).to_string() != recipe.fingerprint {
        let reason = "the binary that compiles is not the one that runs; start the host anew";
        return Err(CompileFault::failed(reason));
    }
    let mut component = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut component);
    read.map_err(|error| CompileFault::failed(format!("the component cannot be read: {error}")))?;
    let code = engine
        .precompile_component(&component)
        .map_err(|error| CompileFault {
            reason: format!("{error:#}"),
            exit_code: EXIT_COMPONENT_AT_FAULT,
        })?;
    let mut output = std::io::stdout().lock();
    let written = output.write_all(&code).and_then(|()| output.flush());
    written.map_err(|error| CompileFault::failed(format!("the code cannot be written: {error}")))
}

fn settle_in(parent: u32) -> Result<(), CompileFault> {
    let refused = |error: rustix::io::Errno| CompileFault::failed(error.to_string());
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused)?;
    let actual = rustix::process::getppid();
    if actual.is_none_or(|actual| actual.as_raw_nonzero().get().cast_unsigned() != parent) {
        // The parent died before the line above, or never was.
        return Err(CompileFault::foreign());
    }
    // Refused where it is lower already, which is as good.
    let _ = rustix::process::nice(NICENESS);
    // Not the address space: libraries reserve far more of it than they use.
    limit(Resource::Data, limits::COMPILE_MEMORY_BYTES_MAX).map_err(refused)?;
    // A core dump would hold the component, and take its time.
    limit(Resource::Core, 0).map_err(refused)
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let old = rustix::process::getrlimit(resource);
    let lower = |old: Option<u64>| Some(old.map_or(most, |old| old.min(most)));
    let new = Rlimit {
        current: lower(old.current),
        maximum: lower(old.maximum),
    };
    rustix::process::setrlimit(resource, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_passes_through_a_command_line() {
        let recipe = Recipe {
            parent: 42,
            blueprint: "0.2/4294967296".parse().unwrap(),
            fingerprint: "00ff".to_owned(),
        };
        assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
    }

    #[test]
    fn what_is_no_recipe_is_said_to_be_the_hosts_affair() {
        for text in ["", "guest.wasm", "1:0.2/1", "x:0.2/1:00"] {
            let fault = compile(text).unwrap_err();
            assert!(fault.to_string().contains("the host's own"), "{text}");
            assert_eq!(fault.exit_code(), EXIT_FAILED);
        }
    }
}
