#!/bin/sh
# Builds the guests that are named, or all, and puts the components into the repository's target/guests/NAME.wasm. Cargo decides which
# of them to build. A component that has not changed keeps its file. Example: `guests/build.sh counter`.
set -eu

guests=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
components=$(dirname -- "$guests")/target/guests
mkdir -p "$components"
messages=$components/.messages.$$
trap 'rm -f "$messages"' EXIT

case $# in
# The crate for testing guests runs natively, so it is not built here.
0) set -- --workspace --exclude cloakroom-testing ;;
*) for name; do set -- "$@" --package "$name" && shift; done ;;
esac
"$guests/cargo.sh" build --locked --release --target wasm32-wasip2 "$@" --message-format json-render-diagnostics >"$messages"
sed -n 's/.*"filenames":\["\([^"]*\/release\/[^"/]*\.wasm\)".*/\1/p' "$messages" | while read -r built; do
    # A library's file has underscores where its package's name has hyphens.
    name=$(basename "$built" | tr _ -)
    if ! cmp -s "$built" "$components/$name"; then
        # Renamed into place, so that a host that watches the file never sees half of it.
        cp "$built" "$components/.$name.$$"
        mv "$components/.$name.$$" "$components/$name"
        echo "target/guests/$name"
    fi
done
