//! Empty: libFuzzer itself is the dependency.
