//! Empty: only the dependency, libFuzzer, is needed.
