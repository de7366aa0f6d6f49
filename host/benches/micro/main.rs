//! Measures how long the parts of a request take, each separately in one process: `make bench-micro`.
//!
//! The results show where the time is spent, and compare two versions on one machine. `counts.rs` detects regressions, because a
//! busy machine does not affect its counts. `peers` compares the speed of the whole host with other servers.

mod instances;
mod pipeline;
mod stores;
mod subjects;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cloakroom_session::record::Document;
use criterion::{Bencher, Criterion, Throughput};
use tokio::runtime::Runtime;

use subjects::cookies::Signed;
use subjects::rows;

/// The number of requests that one instance serves: effectively unlimited.
const REUSED: u32 = u32::MAX;
/// How instances are used: one for each request, or one for all.
const USES: [(&str, u32); 2] = [("fresh", 1), ("reused", REUSED)];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    cookies(&mut criterion);
    codec(&mut criterion);
    stores::transactions(&mut criterion);
    stores::commits(&mut criterion);
    instances::requests(&mut criterion);
    instances::breakdown(&mut criterion);
    pipeline::requests(&mut criterion);
    criterion.final_summary();
}

fn cookies(criterion: &mut Criterion) {
    let signed = Signed::new();
    let mut group = criterion.benchmark_group("cookie");
    group.bench_function("sign", |b| {
        b.iter(|| signed.keys.sign(black_box(&signed.id)));
    });
    group.bench_function("verify", |b| {
        b.iter(|| signed.keys.verify(black_box(&signed.value)));
    });
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for (size, row) in [("small", rows::small()), ("large", rows::large())] {
        group.throughput(Throughput::Bytes(row.len() as u64));
        group.bench_function(format!("{size}/parse"), |b| {
            b.iter(|| Document::parse(black_box(&row)));
        });
        group.bench_function(format!("{size}/parse_set_write"), |b| {
            b.iter(|| rows::change(black_box(&row)));
        });
    }
    group.finish();
}

/// Returns a runtime of one thread, so that the results do not include switches between threads.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// Measures an asynchronous operation, repeated within one task.
fn measure<T>(b: &mut Bencher<'_>, runtime: &Runtime, mut work: impl AsyncFnMut() -> T) {
    b.iter_custom(|count| {
        runtime.block_on(async {
            let begun = Instant::now();
            for _ in 0..count {
                black_box(work().await);
            }
            begun.elapsed()
        })
    });
}

/// Measures an operation that times itself, because some of its work must not be measured.
fn measure_timed(b: &mut Bencher<'_>, runtime: &Runtime, mut work: impl AsyncFnMut() -> Duration) {
    b.iter_custom(|count| {
        runtime.block_on(async {
            let mut elapsed = Duration::ZERO;
            for _ in 0..count {
                elapsed += work().await;
            }
            elapsed
        })
    });
}
