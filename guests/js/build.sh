#!/bin/sh
# Builds the guests in JavaScript: the counter, the examples and the tests' own, to the repository's target/guests/NAME.wasm.
# Installs this package's dependencies where they are missing. A component that is newer than its sources is left alone.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repository=$(dirname -- "$(dirname -- "$here")")
components=$repository/target/guests

fail() {
    echo "guests/js/build.sh: $1" >&2
    exit 1
}

command -v node >/dev/null || fail "node is missing: install Node.js 20 or later, then run again"
command -v npm >/dev/null || fail "npm is missing: install it beside Node.js, then run again"
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || fail "node is version $major: 20 or later is needed"

cd "$here"
# npm writes this file last, so an interrupted install is done again.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    echo "guests/js/build.sh: installing the packages of the JavaScript SDK"
    npm ci --no-progress --loglevel=error >/dev/null || fail "npm ci failed in guests/js: is the npm registry in reach?"
    touch node_modules/.package-lock.json
fi

build() { # build NAME ENTRY ENGINE
    component=$components/$1.wasm
    if [ -e "$component" ]; then
        newer=$(find src build wit ../../wit package-lock.json "$2" -newer "$component" -type f | head -n 1)
        [ -n "$newer" ] || return 0
    fi
    node build/cli.js "$2" --output "$component" --engine "$3" || fail "$2 was not built"
}

build counter-js ../counter-js/src/app.js quickjs
build counter-js-starlingmonkey ../counter-js/src/app.js starlingmonkey
for example in session cookies forms api stream hono fetch; do
    build "js-$example" "examples/$example.js" quickjs
done
build js-typed examples/typed.ts quickjs
build js-outbound examples/outbound.js starlingmonkey
build js-hono-starlingmonkey examples/hono.js starlingmonkey
build js-script test/guests/session-script.js quickjs
build js-script-starlingmonkey test/guests/session-script.js starlingmonkey
