//! The gates: the operations whose instructions are counted, and the number of passes that makes the noise of the startup
//! negligible.

use std::hint::black_box;

use cloakroom_runtime::{Runtime, RuntimeOptions};

use super::subjects::cookies::Signed;
use super::subjects::guests;
use super::subjects::rows;
use super::subjects::visits::{NativeCounter, Visitor};

/// An operation whose instructions are counted.
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    pub(crate) passes: u32,
    work: fn(u32),
}

pub(crate) const GATES: [Gate; 6] = [
    gate("cookie_sign", 2_000, sign),
    gate("cookie_verify", 2_000, verify),
    gate("codec_small", 2_000, |passes| change(rows::small, passes)),
    gate("codec_large", 500, |passes| change(rows::large, passes)),
    gate("transaction_memory", 1_000, transact),
    gate("hello_instance", 500, instances),
];

const fn gate(name: &'static str, passes: u32, work: fn(u32)) -> Gate {
    Gate { name, passes, work }
}

impl Gate {
    /// Prepares the operation and performs it `passes` times.
    pub(crate) fn pass(&self, passes: u32) {
        (self.work)(passes);
    }
}

fn sign(passes: u32) {
    let signed = Signed::new();
    for _ in 0..passes {
        black_box(signed.keys.sign(black_box(&signed.id)));
    }
}

fn verify(passes: u32) {
    let signed = Signed::new();
    for _ in 0..passes {
        black_box(signed.keys.verify(black_box(&signed.value)));
    }
}

fn change(row: fn() -> bytes::Bytes, passes: u32) {
    let row = row();
    for _ in 0..passes {
        black_box(rows::change(black_box(&row)));
    }
}

fn transact(passes: u32) {
    let visitor = Visitor::new();
    on_one_thread(async {
        for _ in 0..passes {
            black_box(visitor.visit(NativeCounter).await);
        }
    });
}

/// Does not call the guest. Under valgrind most runs take longer than 4 ms and would continue in the background pool, whose
/// threads read their CPU time through the kernel's vDSO, and valgrind does not map the vDSO.
fn instances(passes: u32) {
    // A pool that fits into the address space that valgrind leaves.
    let runtime = Runtime::new(&RuntimeOptions {
        instances_max: 1,
        idle_instances_max: 0,
        // In the folder of this run.
        code_cache: Some("code".into()),
        ..RuntimeOptions::default()
    });
    let runtime = runtime.expect("the pools' addresses");
    let guest = runtime.load(guests::settings("fixture-hello", 1));
    let guest = guest.unwrap_or_else(|error| panic!("{error} (run `make guests`)"));
    on_one_thread(async {
        for _ in 0..passes {
            let instance = guest.instantiate().await.expect("an instance");
            drop(black_box(instance));
        }
    });
}

fn on_one_thread(work: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(work);
}
