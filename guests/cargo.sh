#!/bin/sh
# Runs cargo in the guests' workspace, with a target folder separate from the host's. Example: `guests/cargo.sh clippy`.
set -eu

guests=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# If the caller keeps cargo's output elsewhere (a CI cache), the guests' output goes there, too.
case ${CARGO_TARGET_DIR:-} in
    '') CARGO_TARGET_DIR=$(dirname -- "$guests")/target/guests-build ;;
    /*) CARGO_TARGET_DIR=$CARGO_TARGET_DIR/guests-build ;;
    *) CARGO_TARGET_DIR=$(dirname -- "$guests")/$CARGO_TARGET_DIR/guests-build ;;
esac
export CARGO_TARGET_DIR
# The guests must not be built with the flags of the host's build.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
cd "$guests"
exec cargo "$@"
