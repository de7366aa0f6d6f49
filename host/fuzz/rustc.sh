#!/bin/sh
# The rustc wrapper (RUSTC_WRAPPER) of host/fuzz/run.sh. The library that host/fuzz/cargo.toml marks with a unique number of
# codegen units is compiled with LLVM's coverage counters for libFuzzer. The binary is linked with libFuzzer.
case " $* " in
*" --crate-name fuzz "*)
    exec "$@" "-Clink-arg=$FUZZ_ENGINE" -Clink-arg=-lstdc++
    ;;
*" --crate-type lib "*"codegen-units=97 "*)
    exec "$@" -Clto=off -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
