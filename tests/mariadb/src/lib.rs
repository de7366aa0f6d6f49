//! A server's programs and data directory.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The number of attempts to create the system tables.
const INSTALL_ATTEMPTS_MAX: u32 = 3;

/// Creates the system tables. The server that creates them sometimes crashes (10.11.19 does, in its Aria engine), so this retries. An error
/// other than a crash occurs at each attempt.
pub(super) fn make_data_directory(directory: &Path) {
    let mut said = String::new();
    for _ in 0..INSTALL_ATTEMPTS_MAX {
        // Fails where no such directory exists yet.
        let _ = fs::remove_dir_all(directory.join("data"));
        let output = Command::new(find_program(&["mariadb-install-db", "mysql_install_db"]))
            .args(common_arguments(directory))
            .args([
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .stdin(Stdio::null())
            .output()
            .expect("mariadb-install-db can be started");
        if output.status.success() {
            return;
        }
        said = [output.stdout, output.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat();
    }
    panic!("mariadb-install-db failed: {said}");
}

pub(super) fn common_arguments(directory: &Path) -> Vec<String> {
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", directory.join("data").display()),
    ];
    // mariadbd refuses to run as root unless this option is given.
    if fs::metadata(directory).is_ok_and(|m| m.uid() == 0) {
        arguments.push("--user=root".to_owned());
    }
    arguments
}

/// Returns the first of `names` that is installed, on the path or in the folders where distributions install servers.
pub(super) fn find_program(names: &[&str]) -> PathBuf {
    for name in names {
        for candidate in [
            PathBuf::from(name),
            Path::new("/usr/sbin").join(name),
            Path::new("/usr/libexec").join(name),
        ] {
            let probe = Command::new(&candidate)
                .args(["--no-defaults", "--version"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            match probe {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                _ => return candidate,
            }
        }
    }
    panic!(
        "{} is not installed: these tests run against a real MariaDB server (Debian: apt-get install mariadb-server)",
        names[0]
    );
}

/// Returns whether all threads of the process have stopped. Sending a stop signal does not wait for that.
pub(super) fn is_stopped(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        // This system has no `/proc`, so there is nothing to check.
        return true;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may contain any character.
        (status.rsplit_once(") ")).is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
