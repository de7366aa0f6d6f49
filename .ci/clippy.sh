#!/bin/sh
# rustc for the workspace's own crates in CI, as cargo's build.rustc-workspace-wrapper: clippy lints and compiles them in one pass.
# `cargo clippy` before the tests would compile most dependencies a second time: ten minutes where nothing is compiled.
exec clippy-driver "$@" -D warnings
