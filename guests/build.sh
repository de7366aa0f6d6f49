#!/bin/sh
# Builds every guest and leaves the components in target/guests/NAME.wasm of the repository.
# Cargo decides what to build; a component that has not changed is not touched.
set -eu

guests=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repository=$(dirname -- "$guests")
# Where a caller keeps cargo's output elsewhere (CI's cache), the guests' goes there too, in a folder of its own.
case ${CARGO_TARGET_DIR:-} in
    '') build=$repository/target/guests-build ;;
    /*) build=$CARGO_TARGET_DIR/guests-build ;;
    *) build=$repository/$CARGO_TARGET_DIR/guests-build ;;
esac
components=$repository/target/guests

# The flags of the host's build are not meant for the guests.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
cd "$guests"
CARGO_TARGET_DIR=$build cargo build --quiet --locked --release --target wasm32-wasip2 "$@"

mkdir -p "$components"
for built in "$build"/wasm32-wasip2/release/*.wasm; do
    # A library's file has underscores where its package has hyphens.
    name=$(basename "$built" | tr _ -)
    if ! cmp -s "$built" "$components/$name"; then
        # Renamed into place: a host that watches the file never sees half of it.
        cp "$built" "$components/.$name.new"
        mv "$components/.$name.new" "$components/$name"
        echo "target/guests/$name"
    fi
done
