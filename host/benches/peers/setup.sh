#!/bin/sh
# Provides the dependency of the benchmark other than cargo, MariaDB and Node.js: the release of wasmtime whose library the host
# uses. Builds it from its crate into $1 unless it is installed, and prints the path of the program.
set -eu
folder=$1
version=50.0.1

is_wanted() {
    case $("$1" --version 2>/dev/null) in
        "wasmtime $version"*) return 0 ;;
        *) return 1 ;;
    esac
}

installed=$(command -v wasmtime || true)
if [ -n "$installed" ] && is_wanted "$installed"; then
    echo "$installed"
    exit
fi

mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)
if ! is_wanted "$folder/wasmtime/bin/wasmtime"; then
    echo "host/benches/peers/setup.sh: building wasmtime $version, which takes some minutes" >&2
    # A persistent target folder, so that an interrupted build continues where it stopped.
    CARGO_TARGET_DIR=$folder/wasmtime-build \
        cargo install --locked --ignore-rust-version --root "$folder/wasmtime" --version "=$version" wasmtime-cli >&2
    rm -rf "$folder/wasmtime-build"
fi
echo "$folder/wasmtime/bin/wasmtime"
