//! Runs the test command of a guest. Independent of test runners: a command is a line for `sh`, and its output is not
//! interpreted.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::signals::{self, TestSignals};
use cloakroom_base::limits;
use cloakroom_host::config::TEST_VARIABLE;

/// The end of a command, with its exit code. If a signal ended it, the code is 128 plus the number of the signal, as in a
/// shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    /// The command ended by itself.
    Ended(u8),
    /// A signal interrupted the command. The code is never 0.
    Interrupted(u8),
}

/// Runs `command` in `folder` with `arguments` appended. Its standard output and error are inherited, and its input is empty.
///
/// A signal is forwarded to all processes of the command. Those that are still running after [`limits::TEST_INTERRUPT_GRACE`],
/// or when a second signal arrives, are killed.
///
/// # Errors
/// Returns an error if the command cannot be run.
pub(crate) async fn run(
    command: &str,
    arguments: &[String],
    folder: &Path,
    url: &str,
    signals: &mut TestSignals,
) -> io::Result<CommandEnd> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(with_arguments(command, arguments))
        // The value of `$0`.
        .arg("sh")
        .args(arguments)
        .env(TEST_VARIABLE, url)
        .current_dir(folder)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let all = |signal| group.map(|group| kill_process_group(group, signal));
    let caught = tokio::select! {
        status = child.wait() => {
            // Kills the processes that the tests have left running.
            let _ = all(Signal::KILL);
            return status.map(|status| CommandEnd::Ended(exit_code(status)));
        }
        caught = signals.next() => caught,
    };
    // Fails if all processes have already ended.
    let _ = all(caught);
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        _ = signals.next() => None,
        () = tokio::time::sleep(limits::TEST_INTERRUPT_GRACE) => None,
    };
    let _ = all(Signal::KILL);
    let status = match status {
        Some(status) => status,
        None => child.wait().await?,
    };
    Ok(CommandEnd::Interrupted(match exit_code(status) {
        // The command ended successfully, but only because of the signal.
        0 => signals::exit_code(caught),
        code => code,
    }))
}

/// Lets the shell append the arguments, each one unchanged.
fn with_arguments(command: &str, arguments: &[String]) -> String {
    match arguments {
        [] => command.to_owned(),
        _ => format!("{} \"$@\"", command.trim_end()),
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let of_signal = || status.signal().map(|signal| 128 + signal);
    let code = status.code().or_else(of_signal);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_here(command: &str, arguments: &[&str]) -> (u8, String) {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut signals = TestSignals::new().unwrap();
        let ran = run(command, &arguments, folder.path(), "http://x", &mut signals).await;
        let CommandEnd::Ended(code) = ran.unwrap() else {
            panic!("no signal came");
        };
        let written = std::fs::read_to_string(folder.path().join("out"));
        (code, written.unwrap_or_default())
    }

    #[tokio::test]
    async fn the_test_command_runs_in_the_project_folder_with_the_hosts_url() {
        let (code, written) = run_here("echo $CLOAKROOM_TEST_URL > out", &[]).await;
        assert_eq!((code, written.as_str()), (0, "http://x\n"));
    }

    #[tokio::test]
    async fn arguments_are_passed_to_the_test_command_unchanged() {
        let arguments = ["a b", "it's", "$HOME", "\"", ""];
        let (_, written) = run_here("printf '[%s]' > out", &arguments).await;
        assert_eq!(written, "[a b][it's][$HOME][\"][]");
    }

    #[tokio::test]
    async fn background_processes_of_the_test_command_are_ended() {
        let command = "sleep 600 >/dev/null 2>&1 & echo $! > out; exit 3";
        let (code, pid) = run_here(command, &[]).await;
        assert_eq!(code, 3);
        let stat = std::path::Path::new("/proc").join(pid.trim()).join("stat");
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // A process that has not been waited for yet is a zombie. It counts as ended.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(std::time::Instant::now() < end, "process {pid} lives on");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn the_exit_code_of_the_test_command_is_the_one_that_a_shell_reports() {
        assert_eq!(run_here("exit 7", &[]).await.0, 7);
        assert_eq!(run_here("kill -9 $$", &[]).await.0, 137);
    }
}
