//! The child's side of compiling in a child process, which a host starts with a hidden command.
//!
//! Reads a component from standard input and writes machine code to standard output. The host uses the text on standard error as its error
//! reason, so the child phrases it like a message of the host.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::str::FromStr;

use rustix::process::{Resource, Rlimit, Signal};

use crate::engine;
use crate::engine::{EngineFingerprint, EngineSettings};
use cloakroom_base::limits;

/// Exit code of a child whose component is faulty.
pub(crate) const EXIT_COMPONENT_AT_FAULT: u8 = 3;
/// Exit code of a child that failed for another reason.
const EXIT_FAILED: u8 = 1;
/// Niceness that a child adds to its own, so that it yields the processor to the host.
const NICENESS: i32 = 10;

/// The arguments of a child, passed on its command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CompileArguments {
    /// Process id of the host that wants the code.
    pub(crate) parent: u32,
    pub(crate) engine_settings: EngineSettings,
    /// Fingerprint of the engine that will run the code.
    pub(crate) fingerprint: String,
}

impl fmt::Display for CompileArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            self.parent, self.engine_settings, self.fingerprint
        )
    }
}

impl FromStr for CompileArguments {
    type Err = CompileError;

    fn from_str(text: &str) -> Result<Self, CompileError> {
        let foreign = || CompileError::failed("this command is internal: only the host starts it");
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or_else(foreign);
        Ok(Self {
            parent: part()?.parse().map_err(|_| foreign())?,
            engine_settings: part()?.parse().map_err(|_| foreign())?,
            fingerprint: part()?.to_owned(),
        })
    }
}

/// Error returned when a child produced no code.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct CompileError {
    reason: String,
    exit_code: u8,
}

impl CompileError {
    fn failed(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            exit_code: EXIT_FAILED,
        }
    }

    fn foreign() -> Self {
        Self::failed("this command is internal: only the host starts it")
    }

    /// Returns the exit code of the process, from which the parent sees whether the component is faulty.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// Does the work of a child process: compiles the component on standard input to standard output, with the settings in `recipe`.
///
/// Must be called at the start of a process, before there are threads: it lowers the priority of the process, limits its memory and makes
/// sure that it ends with its parent.
///
/// # Errors
/// Fails if the component or the recipe is faulty, or the system refuses a call. The caller prints the error to standard error.
pub fn compile(recipe: &str) -> Result<(), CompileError> {
    let recipe: CompileArguments = recipe.parse()?;
    settle_in(recipe.parent)?;
    let world = recipe.engine_settings.world;
    let engine = engine::compiling_engine(recipe.engine_settings)
        .map_err(|error| CompileError::failed(format!("{error:#}")))?;
    if EngineFingerprint::of(&engine, world).to_string() != recipe.fingerprint {
        let reason = "the compiling binary is not the running one; restart the host";
        return Err(CompileError::failed(reason));
    }
    let mut component = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut component);
    read.map_err(|error| CompileError::failed(format!("the component cannot be read: {error}")))?;
    let code = engine
        .precompile_component(&component)
        .map_err(|error| CompileError {
            reason: format!("{error:#}"),
            exit_code: EXIT_COMPONENT_AT_FAULT,
        })?;
    let mut output = std::io::stdout().lock();
    let written = output.write_all(&code).and_then(|()| output.flush());
    written.map_err(|error| CompileError::failed(format!("the code cannot be written: {error}")))
}

fn settle_in(parent: u32) -> Result<(), CompileError> {
    let refused = |error: rustix::io::Errno| CompileError::failed(error.to_string());
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused)?;
    let actual = rustix::process::getppid();
    if actual.is_none_or(|actual| actual.as_raw_nonzero().get().cast_unsigned() != parent) {
        // The parent died before the line above, or no host started this process.
        return Err(CompileError::foreign());
    }
    // If this fails, the child compiles at its current priority.
    let _ = rustix::process::nice(NICENESS);
    // Limits data rather than address space, because libraries reserve far more address space than they use.
    limit(Resource::Data, limits::COMPILE_MEMORY_BYTES_MAX).map_err(refused)?;
    // A core dump would contain the component, and would take time.
    limit(Resource::Core, 0).map_err(refused)
}

/// Lowers a limit, or keeps it if it is lower already.
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
        let recipe = CompileArguments {
            parent: 42,
            engine_settings: "0.2/4294967296".parse().unwrap(),
            fingerprint: "00ff".to_owned(),
        };
        assert_eq!(
            recipe.to_string().parse::<CompileArguments>().unwrap(),
            recipe
        );
    }

    #[test]
    fn an_invalid_recipe_is_refused_with_a_notice_that_only_the_host_compiles() {
        for text in ["", "guest.wasm", "1:0.2/1", "x:0.2/1:00"] {
            let fault = compile(text).unwrap_err();
            assert!(
                fault.to_string().contains("only the host starts it"),
                "{text}"
            );
            assert_eq!(fault.exit_code(), EXIT_FAILED);
        }
    }
}
