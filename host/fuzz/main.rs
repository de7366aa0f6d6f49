//! Runs one of the library's fuzz targets, which `FUZZ_TARGET` names, under libFuzzer's `main`. Built and run by `host/fuzz/run.sh`.
#![no_main]
#![expect(
    unsafe_code,
    reason = "libFuzzer calls its target by a C function of a fixed name"
)]

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use cloakroom_host::fuzz::FuzzTarget;

static TARGET: OnceLock<FuzzTarget> = OnceLock::new();

/// Called once, before the first input.
#[expect(
    clippy::disallowed_methods,
    reason = "libFuzzer parses the command-line arguments itself"
)]
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerInitialize(_: *const c_int, _: *const *const *const c_char) -> c_int {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let target = FuzzTarget::named(&name).expect("there is a target of this name");
    TARGET.get_or_init(|| target);
    let show = std::panic::take_hook();
    // libFuzzer saves the input when the process aborts. The panic must not be caught before that.
    std::panic::set_hook(Box::new(move |panic| {
        show(panic);
        std::process::abort();
    }));
    0
}

/// Called for each input.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerTestOneInput(input: *const u8, length: usize) -> c_int {
    let input = if length == 0 {
        &[]
    } else {
        // SAFETY: libFuzzer passes `length` bytes that are valid and unchanged until this function returns.
        unsafe { std::slice::from_raw_parts(input, length) }
    };
    let target = TARGET.get().expect("a target is chosen first");
    (target.run)(input);
    0
}
