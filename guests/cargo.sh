#!/bin/sh
# Runs cargo on the guests' workspace, with a target folder of its own beside the host's: `guests/cargo.sh clippy`.
set -eu

guests=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# Where a caller keeps cargo's output elsewhere (CI's cache), the guests' goes there too.
case ${CARGO_TARGET_DIR:-} in
    '') CARGO_TARGET_DIR=$(dirname -- "$guests")/target/guests-build ;;
    /*) CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests-build ;;
    *) CARGO_TARGET_DIR=$(dirname -- "$guests")/$CARGO_TARGET_DIR/guests-build ;;
esac
export CARGO_TARGET_DIR
# The flags of the host's build are not meant for the guests.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
cd "$guests"
exec cargo "$@"
