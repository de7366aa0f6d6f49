//! Tests which runs are cut in favor of queued requests, and which are not.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::run::concurrency::ConcurrencyLimit;

/// Returns limits with this many slots for the guest, and more than enough for the pool.
fn limits(places: usize) -> ConcurrencyLimits {
    let limit = |places| {
        Arc::new(ConcurrencyLimit::new(
            places,
            1 << 10,
            Duration::from_secs(60),
        ))
    };
    ConcurrencyLimits::new(limit(places), limit(1 << 10))
}

/// Starts `count` runs that wait. Run n has waited for a minute, in which its client moved n bytes.
async fn waiting(limits: &ConcurrencyLimits, count: usize) -> Vec<(InstancePermit, RunClient)> {
    let mut runs = Vec::new();
    for bytes in 0..count {
        let permit = limits.enter(None, None).await.unwrap();
        let mut client = RunClient::of(&permit, limits, None);
        assert!(poll(&mut client, bytes).is_pending());
        runs.push((permit, client));
    }
    for limit in [&limits.guest, &limits.pool] {
        for (_, wait) in limit.clients.0.lock().waits.iter_mut() {
            wait.waited = Duration::from_secs(60);
        }
    }
    runs
}

fn poll(client: &mut RunClient, bytes: usize) -> Poll<GuestFailure> {
    client.poll_wait(
        bytes as u64 * 10_000,
        &mut Context::from_waker(Waker::noop()),
    )
}

fn cut(runs: &mut [(InstancePermit, RunClient)]) -> Vec<usize> {
    let cut = |(n, (_, client)): (usize, &mut (InstancePermit, RunClient))| {
        poll(client, n).is_ready().then_some(n)
    };
    runs.iter_mut().enumerate().filter_map(cut).collect()
}

#[tokio::test]
async fn while_requests_queue_slow_clients_keep_at_most_half_of_the_slots() {
    let limits = limits(8);
    let mut runs = waiting(&limits, 7).await;
    limits.guest.clients.make_room(8, 0);
    assert_eq!(cut(&mut runs), [0_usize; 0], "no request queues");
    limits.guest.clients.make_room(8, 1);
    assert_eq!(cut(&mut runs), [0], "one request queues");
    limits.guest.clients.make_room(8, 1);
    assert_eq!(cut(&mut runs), [0], "its place is about to be free");
    limits.guest.clients.make_room(8, 50);
    assert_eq!(cut(&mut runs), [0, 1, 2], "half of the places is theirs");
}

#[tokio::test]
async fn a_client_wait_that_has_ended_or_just_begun_is_never_cut() {
    let limits = limits(4);
    let mut runs = waiting(&limits, 3).await;
    runs[0].1.resume().unwrap();
    limits.guest.clients.make_room(4, 50);
    assert_eq!(limits.guest.clients.0.lock().leaving, 0, "two of four wait");
    for (_, wait) in limits.guest.clients.0.lock().waits.iter_mut() {
        wait.waited = Duration::ZERO;
    }
    assert!(poll(&mut runs[0].1, 0).is_pending());
    limits.guest.clients.make_room(4, 50);
    assert_eq!(cut(&mut runs), [0_usize; 0]);
}

#[tokio::test]
async fn a_client_keeps_the_only_slot_only_at_a_minimum_transfer_rate() {
    for (bytes, is_cut) in [(0, true), ((60 * 60) << 10, true), ((60 * 70) << 10, false)] {
        let limits = limits(1);
        let mut runs = waiting(&limits, 1).await;
        let client = &mut runs[0].1;
        let mut poll = || client.poll_wait(bytes, &mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        limits.guest.clients.make_room(1, 1);
        assert_eq!(poll().is_ready(), is_cut, "{bytes} bytes in a minute");
    }
}

#[tokio::test]
async fn a_queued_request_gets_the_slot_of_a_client_that_is_cut() {
    let limits = limits(2);
    let mut runs = waiting(&limits, 2).await;
    let queued = tokio::spawn({
        let limits = limits.clone();
        async move { limits.enter(None, None).await.map(drop) }
    });
    let (permit, mut slowest) = runs.remove(0);
    let why = std::future::poll_fn(|cx| slowest.poll_wait(0, cx)).await;
    assert_eq!(why, GuestFailure::ClientTooSlow);
    drop((permit, slowest));
    queued.await.unwrap().unwrap();
    drop(runs);
    let waits = limits.guest.clients.0.lock();
    assert_eq!((waits.waiting, waits.leaving, waits.waits.len()), (0, 0, 0));
}
