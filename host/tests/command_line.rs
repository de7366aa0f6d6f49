//! The binary as a user starts it. Cargo builds the binary for this test, and thereby for the end-to-end tests.

use std::process::Command;

#[test]
fn the_version_is_printed() {
    let binary = env!("CARGO_BIN_EXE_cloakroom");
    let output = Command::new(binary).arg("--version").output().unwrap();
    let expected = concat!("cloakroom ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
