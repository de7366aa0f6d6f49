//! Runs the commands that build a guest from its sources. Knows no programming language: a command is a line for `sh`.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use cloakroom_base::telemetry;
use cloakroom_host::config::BuildSettings;

/// The maximum number of output lines kept of a command. Only the last ones are kept.
const LINES_MAX: usize = 400;
/// How long output is still read after the command has ended.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// Error returned when a build command fails. Contains its output.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The command ended with an exit code other than 0.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command.
        command: String,
        /// The exit status.
        status: ExitStatus,
        /// The last lines of the output. Standard output and standard error are combined.
        output: String,
    },
    /// The command could not be started.
    #[error("`{command}` could not be run: {error}")]
    NotRun {
        /// The command.
        command: String,
        /// The error of the operating system.
        error: std::io::Error,
    },
}

impl BuildError {
    /// Returns the last lines of the command's output, or an empty string if it was not started.
    pub fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. } => output,
            Self::NotRun { .. } => "",
        }
    }
}

/// Runs the setup command, unless the files that it creates exist.
///
/// # Errors
/// Returns the errors of [`make`].
///
/// Cancel safety: dropping the future kills the command and all processes that it started.
pub async fn set_up(build: &BuildSettings) -> Result<(), BuildError> {
    match build.setup_due() {
        Some(setup) => run(setup, &build.folder).await,
        None => Ok(()),
    }
}

/// Builds the component. Prints the command's output on standard error as it arrives.
///
/// # Errors
/// Returns an error if the command cannot be run or ends with an exit code other than 0.
///
/// Cancel safety: dropping the future kills the command and all processes that it started.
pub async fn make(build: &BuildSettings) -> Result<(), BuildError> {
    run(&build.command, &build.folder).await
}

async fn run(command: &str, folder: &Path) -> Result<(), BuildError> {
    let not_run = |error| BuildError::NotRun {
        command: command.to_owned(),
        error,
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .process_group(0)
        .spawn()
        .map_err(not_run)?;
    // Kills the processes of the command that are still running when this function returns.
    let _group = ProcessGroup(child.id());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let last_lines = Mutex::new(VecDeque::new());
    let mut output =
        pin!(async { tokio::join!(follow(stdout, &last_lines), follow(stderr, &last_lines)) });
    let (status, is_output_complete) = tokio::select! {
        biased;
        _ = &mut output => (child.wait().await, true),
        status = child.wait() => (status, false),
    };
    let status = status.map_err(not_run)?;
    if !is_output_complete {
        // A process that the command left running may keep the output open.
        let _ = timeout(OUTPUT_GRACE, output).await;
    }
    if status.success() {
        return Ok(());
    }
    let last_lines = std::mem::take(&mut *last_lines.lock());
    Err(BuildError::Failed {
        command: command.to_owned(),
        status,
        output: Vec::from(last_lines).join("\n"),
    })
}

/// The processes of a command: `sh` and all processes that it started, except those that moved to a process group of their own.
/// Dropping this value kills them.
struct ProcessGroup(Option<u32>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // Fails if all processes have already ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Prints a stream line by line and keeps the last lines.
async fn follow(stream: Option<impl AsyncRead + Unpin>, last_lines: &Mutex<VecDeque<String>>) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = without_colours(&String::from_utf8_lossy(&line));
        telemetry::print_stderr(&line);
        let mut last_lines = last_lines.lock();
        if last_lines.len() == LINES_MAX {
            last_lines.pop_front();
        }
        last_lines.push_back(line);
    }
}

/// Returns the text without terminal control sequences (ECMA-48), such as colours, cursor movements and links.
pub(crate) fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.extend((!c.is_control() || matches!(c, '\n' | '\t')).then_some(c));
            continue;
        }
        match rest.next() {
            // The first byte from `@` to `~` ends a control sequence.
            Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
            // A bell or a string terminator ends an operating system command.
            Some(']') => {
                let mut before = ' ';
                while let Some(c) = rest.next()
                    && c != '\u{7}'
                    && (before, c) != ('\u{1b}', '\\')
                {
                    before = c;
                }
            }
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> BuildSettings {
        BuildSettings {
            folder: folder.to_owned(),
            setup: Some("touch tools && echo again >> setups".to_owned()),
            creates: Some(folder.join("tools")),
            command: "cat tools && echo made > guest.wasm".to_owned(),
            watch: Vec::new(),
            test: None,
        }
    }

    #[tokio::test]
    async fn tools_are_fetched_once_and_the_component_is_made_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let build = settings(folder.path());
        for _ in 0..2 {
            set_up(&build).await.unwrap();
            make(&build).await.unwrap();
        }
        let setups = std::fs::read_to_string(folder.path().join("setups")).unwrap();
        assert_eq!(setups, "again\n");
        assert!(folder.path().join("guest.wasm").exists());
    }

    /// Waits until a process has ended.
    async fn gone(pid: &str) {
        let mut rounds = 0;
        // A process that has not been waited for yet is a zombie. It counts as ended.
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while is_there() {
            rounds += 1;
            assert!(rounds < 500, "process {pid} lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn dropping_a_build_ends_all_its_processes() {
        let folder = tempfile::tempdir().unwrap();
        let build = BuildSettings {
            command: "sleep 600 & echo $! > pid; wait".to_owned(),
            ..settings(folder.path())
        };
        let file = folder.path().join("pid");
        let written = || std::fs::read_to_string(&file).is_ok_and(|pid| pid.ends_with('\n'));
        tokio::select! {
            made = make(&build) => panic!("it waits: {made:?}"),
            () = async { while !written() { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        }
        gone(std::fs::read_to_string(&file).unwrap().trim()).await;
    }

    #[tokio::test]
    async fn background_processes_of_a_command_do_not_delay_it_and_are_ended() {
        let folder = tempfile::tempdir().unwrap();
        for (command, is_well) in [
            ("sleep 600 & echo $! > pid", true),
            ("sleep 600 >/dev/null 2>&1 & echo $! > pid", true),
            ("sleep 600 >/dev/null 2>&1 & echo $! > pid; exit 3", false),
        ] {
            let build = BuildSettings {
                command: command.to_owned(),
                ..settings(folder.path())
            };
            let made = timeout(Duration::from_secs(20), make(&build)).await;
            assert_eq!(made.expect("it ends").is_ok(), is_well, "{command}");
            let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
            gone(pid.trim()).await;
        }
    }

    #[tokio::test]
    async fn a_failed_command_is_reported_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let build = BuildSettings {
            command: "echo src/app.js:3: a bracket is missing >&2; exit 7".to_owned(),
            ..settings(folder.path())
        };
        let error = make(&build).await.unwrap_err();
        assert_eq!(error.output(), "src/app.js:3: a bracket is missing");
        assert!(error.to_string().contains("exit status: 7"), "{error}");
    }
}
