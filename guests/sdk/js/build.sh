#!/bin/sh
# Builds the guests in JavaScript to the repository's target/guests/NAME.wasm: the counter, the examples and the guests of the tests.
# Installs missing dependencies of this package. Does not rebuild a component that is newer than its sources.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repository=$(dirname -- "$(dirname -- "$(dirname -- "$here")")")
components=$repository/target/guests

fail() {
    echo "guests/sdk/js/build.sh: $1" >&2
    exit 1
}

command -v node >/dev/null || fail "node is missing: install Node.js 20 or later, then run again"
command -v npm >/dev/null || fail "npm is missing: install it together with Node.js, then run again"
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || fail "node is version $major: 20 or later is needed"

install() { # install FOLDER WHAT
    # npm writes this file last, so an interrupted installation is repeated.
    last=$1/node_modules/.package-lock.json
    if [ ! -e "$last" ] || [ "$1/package-lock.json" -nt "$last" ]; then
        echo "guests/sdk/js/build.sh: installing $2"
        (cd "$1" && npm ci --no-progress --loglevel=error >/dev/null) || fail "npm ci failed in $1: is the npm registry reachable?"
        touch "$last"
    fi
}

install "$here" "the packages of the JavaScript SDK"
install "$here/examples" "the packages of its examples, StarlingMonkey among them"
# A build searches for StarlingMonkey in its working directory.
cd "$here/examples"

build() { # build NAME ENTRY ENGINE
    component=$components/$1.wasm
    if [ -e "$component" ]; then
        newer=$(find ../src ../build ../wit ../../../../wit ../package-lock.json "$2" -newer "$component" -type f | head -n 1)
        [ -n "$newer" ] || return 0
    fi
    node ../build/cli.js "$2" --output "$component" --engine "$3" || fail "$2 was not built"
}

build counter-js ../../../examples/counter-js/src/app.js quickjs
build counter-js-starlingmonkey ../../../examples/counter-js/src/app.js starlingmonkey
for example in session cookies forms api stream hono fetch; do
    build "js-$example" "$example.js" quickjs
done
build js-typed typed.ts quickjs
build js-outbound outbound.js starlingmonkey
build js-hono-starlingmonkey hono.js starlingmonkey
build js-script ../test/guests/session-script.js quickjs
build js-script-starlingmonkey ../test/guests/session-script.js starlingmonkey
build js-fetch-script ../test/guests/fetch-script.js quickjs
build js-fetch-script-starlingmonkey ../test/guests/fetch-script.js starlingmonkey
