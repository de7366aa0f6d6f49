//! The parent's side of compiling in a child process: starts the child, waits for it up to a time limit, and takes its output.
//!
//! The component and the code are passed in anonymous files. So neither side waits until the other one reads, and nothing is left behind if
//! either dies. The child gets no environment variables and no other files.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use super::child::{CompileArguments, EXIT_COMPONENT_AT_FAULT};
use super::unfit;
use crate::engine::{EngineFingerprint, EngineSettings};
use crate::load::loader::LoadError;

/// The hidden command that runs [`super::compile`].
const WORD: &str = "compile";
/// Largest part of a child's error output that is kept, in bytes.
const STDERR_BYTES_MAX: u64 = 16 << 10;
/// Interval at which a waiting parent checks whether it must stop.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// A component to be compiled.
pub(crate) struct CompileJob<'a> {
    pub(crate) exe: &'a Path,
    pub(crate) engine_settings: EngineSettings,
    pub(crate) fingerprint: EngineFingerprint,
    pub(crate) timeout: Duration,
    pub(crate) is_stopped: &'a AtomicBool,
}

/// The exit status and the error output of a child.
struct ChildEnd {
    status: ExitStatus,
    output: String,
}

/// A child process that is killed when this is dropped.
struct CompileChild(Child);

impl Drop for CompileChild {
    fn drop(&mut self) {
        // A child that has already ended is only reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl CompileJob<'_> {
    pub(crate) fn carry_out(&self, component: &[u8]) -> Result<Vec<u8>, LoadError> {
        let not_started = |error: io::Error| LoadError::NotCompiled {
            reason: format!("the compiler cannot be started: {error}"),
        };
        let mut code = nameless("code").map_err(not_started)?;
        let child = self.start(component, &code).map_err(not_started)?;
        let ChildEnd { status, output } = self.wait(child)?;
        if status.code() == Some(EXIT_COMPONENT_AT_FAULT.into()) {
            return Err(unfit(self.engine_settings.world, output));
        }
        if !status.success() {
            let mut reason = format!("the compiler ended with {status}");
            if status.signal() == Some(rustix::process::Signal::KILL.as_raw()) {
                reason += " (the machine may be out of memory)";
            }
            if !output.is_empty() {
                reason = format!("{reason}: {output}");
            }
            return Err(LoadError::NotCompiled { reason });
        }
        let mut compiled = Vec::new();
        let read = code.rewind().and_then(|()| code.read_to_end(&mut compiled));
        read.map_err(|error| LoadError::NotCompiled {
            reason: format!("the compiler's output cannot be read: {error}"),
        })?;
        Ok(compiled)
    }

    fn start(&self, component: &[u8], code: &File) -> io::Result<CompileChild> {
        let mut input = nameless("component")?;
        input.write_all(component)?;
        input.rewind()?;
        let recipe = CompileArguments {
            parent: std::process::id(),
            engine_settings: self.engine_settings,
            fingerprint: self.fingerprint.to_string(),
        };
        Command::new(self.exe)
            .arg(WORD)
            .arg(recipe.to_string())
            .env_clear()
            .stdin(input)
            .stdout(code.try_clone()?)
            .stderr(Stdio::piped())
            .spawn()
            .map(CompileChild)
    }

    /// Waits until the child ends. Kills it if it takes too long or the host is stopping.
    fn wait(&self, mut child: CompileChild) -> Result<ChildEnd, LoadError> {
        let give_up_at = Instant::now() + self.timeout;
        let stderr = child.0.stderr.take();
        std::thread::scope(|scope| {
            // Dropped before the thread is joined. That kills the child, so the thread's read ends.
            let mut child = child;
            let (sender, ended) = mpsc::channel();
            scope.spawn(move || sender.send(listen(stderr)));
            let output = loop {
                let left = give_up_at.saturating_duration_since(Instant::now());
                match ended.recv_timeout(left.min(STOP_LOOK)) {
                    Ok(output) => break output,
                    Err(RecvTimeoutError::Disconnected) => break String::new(),
                    Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                        let limit = humantime::format_duration(self.timeout);
                        let reason = format!("it took longer than {limit}");
                        return Err(LoadError::NotCompiled { reason });
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
                if self.is_stopped.load(Ordering::Relaxed) {
                    let reason = "the host is stopping".to_owned();
                    return Err(LoadError::NotCompiled { reason });
                }
            };
            let status = child.0.wait().map_err(|error| LoadError::NotCompiled {
                reason: format!("waiting for the compiler failed: {error}"),
            })?;
            Ok(ChildEnd { status, output })
        })
    }
}

/// Reads a child's error output until it ends, and keeps the beginning.
fn listen(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut output = Vec::new();
    // A failed read counts as the end of the output, because the exit status shows the result.
    let _ = stderr
        .by_ref()
        .take(STDERR_BYTES_MAX)
        .read_to_end(&mut output);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// Creates a file in memory that is freed when its last descriptor is closed.
fn nameless(what: &str) -> io::Result<File> {
    let file = rustix::fs::memfd_create(what, MemfdFlags::CLOEXEC)?;
    Ok(file.into())
}
