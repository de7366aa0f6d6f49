#!/bin/sh
# rustc for host/fuzz/run.sh, as cargo's RUSTC_WRAPPER. In the library that host/fuzz/cargo.toml marks, with a number of codegen units
# that nothing else has, LLVM counts coverage as libFuzzer needs it; the binary is linked with libFuzzer.
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
