#!/bin/sh
# Builds every guest and leaves the components in the repository's target/guests/NAME.wasm. Cargo decides what to build;
# a component that has not changed is not touched.
set -eu

guests=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
components=$(dirname -- "$guests")/target/guests
mkdir -p "$components"
messages=$components/.messages.$$
trap 'rm -f "$messages"' EXIT

# The crate that tests guests runs beside them, natively.
"$guests/cargo.sh" build --locked --release --target wasm32-wasip2 --workspace --exclude cloakroom-testing \
    --message-format json-render-diagnostics >"$messages"
sed -n 's/.*"filenames":\["\([^"]*\/release\/[^"/]*\.wasm\)".*/\1/p' "$messages" | while read -r built; do
    # A library's file has underscores where its package has hyphens.
    name=$(basename "$built" | tr _ -)
    if ! cmp -s "$built" "$components/$name"; then
        # Renamed into place: a host that watches the file never sees half of it.
        cp "$built" "$components/.$name.$$"
        mv "$components/.$name.$$" "$components/$name"
        echo "target/guests/$name"
    fi
done
