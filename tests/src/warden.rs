//! A warden process, which ends the processes of a test however the test process itself ends.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// The script of the warden. Its standard input ends with the test process. It then kills all processes that were started with a path below
/// `$1`, also those started meanwhile, and removes `$1`.
const WARDEN: &str = r#"
cat >/dev/null
for round in 1 2 3; do
    files=$(printf '%s\n' "$1/" | grep -lsFf - /proc/[0-9]*/cmdline)
    [ -n "$files" ] || break
    for file in $files; do
        process=${file%/cmdline}
        kill -KILL "${process#/proc/}"
    done
done
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// A separate shell process that outlives the test process for a moment. Dropping it also kills the processes.
#[derive(Debug)]
pub(crate) struct Warden {
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Warden {
    /// Starts a warden for a folder that no other program's command line names.
    pub(crate) fn over(folder: &Path) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", WARDEN, "warden"])
            .arg(folder)
            // An interrupt at the terminal reaches only the test process.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh can be started");
        let stdin = process.stdin.take();
        Self { process, stdin }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Fails only where the warden was killed.
        let _ = self.process.wait();
    }
}
