//! What a server stands on: its programs and its data directory.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How often the installation is tried.
const INSTALL_ATTEMPTS_MAX: u32 = 3;

/// Makes the system tables. The server that does it crashes now and then (10.11.19 does, in its Aria engine), so a crash
/// is tried again; anything that is wrong fails each time.
pub(super) fn make_data_directory(directory: &Path) {
    let mut said = String::new();
    for _ in 0..INSTALL_ATTEMPTS_MAX {
        // Fails where there is none yet.
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
    // mariadbd refuses to run as root without being told to.
    if fs::metadata(directory).is_ok_and(|m| m.uid() == 0) {
        arguments.push("--user=root".to_owned());
    }
    arguments
}

/// The first of `names` that is installed, on the path or where Debian puts servers.
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

/// Whether all threads of the process have taken a stop signal; the signal's sender does not wait for that.
pub(super) fn is_stopped(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        // No such file system here: nothing to look at.
        return true;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may hold anything.
        (status.rsplit_once(") ")).is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
