#!/bin/sh
# Builds the fuzz targets and runs each for FUZZ_SECONDS (60), two at a time. FUZZ_ONLY="head rows" selects targets.
# Command-line arguments are passed to cargo. New inputs stay in target/fuzz; FUZZ_KEEP=1 adds those that increase the
# coverage to the corpus.
set -eu
cd "$(dirname -- "$0")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/fuzz
seconds=${FUZZ_SECONDS:-60}

cargo build --locked --manifest-path host/fuzz/engine/Cargo.toml --target-dir "$work/engine"
FUZZ_ENGINE=$(find "$work/engine" -name libfuzzer.a | head -n 1)
export FUZZ_ENGINE
RUSTC_WRAPPER=$PWD/host/fuzz/rustc.sh \
    cargo build --config host/fuzz/cargo.toml "$@" --workspace --features cloakroom/fuzzing --example fuzz
mkdir -p "$work"
# A copy is run, so that a later build does not replace the running binary.
cp -f "$target/debug/examples/fuzz" "$work/fuzz"

run() {
    name=$1
    corpus=host/fuzz/corpus/$name
    mkdir -p "$work/$name/corpus" "$work/$name/failed"
    set -- -timeout=10 -rss_limit_mb=1024 -max_len=4096 -dict="host/fuzz/words/$name"
    if ! FUZZ_TARGET=$name "$work/fuzz" "$@" -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$work/$name/failed/" "$work/$name/corpus" "$corpus" >"$work/$name/log" 2>&1; then
        tail -n 40 "$work/$name/log"
        echo "$name: failed; the input is in $work/$name/failed, the output in $work/$name/log"
        return 1
    fi
    grep -h '[0-9]	DONE' "$work/$name/log" | sed "s/^/$name: /"
    [ -z "${FUZZ_KEEP:-}" ] ||
        FUZZ_TARGET=$name "$work/fuzz" "$@" -merge=1 "$corpus" "$work/$name/corpus" >"$work/$name/merge" 2>&1
}

failed=0
# shellcheck disable=SC2086
set -- ${FUZZ_ONLY:-head cookies rows config component}
while [ $# -gt 0 ]; do
    run "$1" &
    first=$!
    if [ $# -gt 1 ]; then
        shift
        run "$1" || failed=1
    fi
    shift
    wait "$first" || failed=1
done
exit "$failed"
