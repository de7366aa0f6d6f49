//! An instance starts in the state that its component defines, whatever an earlier instance has left, even in memory that the kernel has
//! swapped out meanwhile.
//!
//! wasmtime 48 did not reset pages that were swapped out during the lifetime of their instance.

use std::path::Path;
use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, repository};
use cloakroom_tests::swap::{Swap, page_out};
use cloakroom_tests::wait::pause;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Both worlds, and the part of the guest that differs between them.
const WORLDS: [(&str, &str); 2] = [
    ("wasi02", include_str!("isolation/wasi02.wat")),
    ("wasi03", include_str!("isolation/wasi03.wat")),
];
const WIT: &str = "package test:isolation;
world wasi02 {
    import wasi:http/types@0.2.10;
    import wasi:clocks/monotonic-clock@0.2.10;
    export wasi:http/incoming-handler@0.2.10;
}
world wasi03 {
    import wasi:http/types@0.3.0;
    import wasi:clocks/monotonic-clock@0.3.0;
    export wasi:http/handler@0.3.0;
}";

/// The answer of a guest that finds only its own initial contents.
const CLEAN: u16 = 200;
/// The answer of a guest that finds a spoiled memory, a spoiled table and spoiled globals.
const ALL_SPOILED: u16 = 270;
/// The number of concurrent spoiled instances.
const SPOILERS: usize = 4;
/// The memory that each of them writes to: every other page of 8 MiB less 64 KiB.
const SPOILED_KIB: u64 = 4064;
/// The number of instances that look for traces. They are concurrent enough to use each slot of a spoiler many times.
const LOOKS: usize = 1000;
const LOOKS_AT_ONCE: usize = 8;
/// The interval between two attempts to page out the spoiled memory.
const PAGING_INTERVAL: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_instance_finds_data_of_an_earlier_one_in_memory_tables_or_globals() {
    // Dropped last, when no memory of a host is swapped any more.
    let swap = Swap::on();
    let folder = tempfile::tempdir().unwrap();
    for (world, text) in WORLDS {
        let file = folder.path().join(format!("{world}.wasm"));
        std::fs::write(&file, component(world, text)).unwrap();
        let host = start(&file);

        find_in_a_reused_instance(&host, world).await;
        match swap {
            Some(_) => spoil_and_page_out(&host, world).await,
            None => assert_eq!(spoil(&host, 100).await, [CLEAN; SPOILERS], "{world}"),
        }
        let found = look_often(&host).await;
        assert_eq!(found.len(), LOOKS, "{world}");
        let spoiled: Vec<_> = found.iter().filter(|status| **status != CLEAN).collect();
        assert!(
            spoiled.is_empty(),
            "{world}: {} instances found another one's: {spoiled:?}",
            spoiled.len()
        );
    }
}

fn start(component: &Path) -> Host {
    Config::over("memory:")
        .guest_at("/fresh", "fresh", component, "limits.deadline = \"120s\"")
        .guest_at("/reused", "reused", component, "reuse = 1000")
        .start()
}

fn component(world: &str, text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir(repository().join("wit")).unwrap();
    let package = resolve.push_str("isolation.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let spoiler = include_str!("isolation/spoiler.wat");
    let mut module = wat::parse_str(format!("(module {text}\n{spoiler})")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).unwrap().encode().unwrap()
}

/// Checks that the guest detects all three kinds of traces. A reused instance still contains them.
async fn find_in_a_reused_instance(host: &Host, world: &str) {
    let browser = Browser::new();
    let look = async |path| browser.get(&host.url(path)).await.status;
    assert_eq!(look("/reused/spoil1").await, CLEAN, "{world}");
    let mut found = Vec::new();
    while !found.contains(&ALL_SPOILED) {
        assert!(
            found.len() < 100,
            "{world}: the guest does not detect all traces: {found:?}"
        );
        found.push(look("/reused/look").await);
    }
}

/// Spoils instances and pages the host out while they live.
async fn spoil_and_page_out(host: &Host, world: &str) {
    // Page out all other memory first, so that any further swapped memory belongs to the instances.
    page_out(host.id()).unwrap();
    let before = host.swapped_kib();
    let wanted = before + SPOILERS as u64 * SPOILED_KIB * 3 / 4;
    let mut swapped = before;
    // On a busy machine the spoilers must live longer.
    for milliseconds in [2_000, 8_000, 30_000, 100_000] {
        let spoilers = spoil(host, milliseconds);
        tokio::pin!(spoilers);
        let answers = loop {
            tokio::select! {
                answers = &mut spoilers => break answers,
                () = pause(PAGING_INTERVAL, "the pace of paging out"), if swapped < wanted => {
                    page_out(host.id()).unwrap();
                    swapped = host.swapped_kib();
                }
            }
        };
        assert_eq!(answers, [CLEAN; SPOILERS], "{world}");
        if swapped >= wanted {
            return;
        }
    }
    panic!("{world}: only {swapped} KiB were swapped out, {before} before: {wanted} were wanted");
}

/// Spoils concurrent instances that live for this time. Returns the answers, which say what each one found before.
async fn spoil(host: &Host, milliseconds: u32) -> Vec<u16> {
    let url = host.url(&format!("/fresh/spoil{milliseconds}"));
    let spoilers = (0..SPOILERS).map(async |_| Browser::new().get(&url).await.status);
    futures_util::future::join_all(spoilers).await
}

async fn look_often(host: &Host) -> Vec<u16> {
    let in_turn = (0..LOOKS_AT_ONCE).map(async |_| {
        let browser = Browser::new();
        let mut found = Vec::new();
        for _ in 0..LOOKS / LOOKS_AT_ONCE {
            found.push(browser.get(&host.url("/fresh/look")).await.status);
        }
        found
    });
    futures_util::future::join_all(in_turn).await.concat()
}
