//! The end of the processes that a test starts, however the test process itself ends.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// What the warden runs. Its standard input ends with the test process. Then it kills all processes that were started with a path
/// below `$1`, and those that they have started meanwhile, and removes `$1`.
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

/// A shell process of its own that outlives the test process for a moment. Dropping it kills the processes as well.
#[derive(Debug)]
pub(crate) struct Warden {
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Warden {
    /// Starts it over a folder that no other program names.
    pub(crate) fn over(folder: &Path) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", WARDEN, "warden"])
            .arg(folder)
            // An interrupt at the terminal reaches the test process alone.
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
        // It fails only where the warden was killed.
        let _ = self.process.wait();
    }
}
