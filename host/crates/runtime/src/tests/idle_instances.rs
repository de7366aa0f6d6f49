//! Idle instances: their number, their idle time, and that they are dropped with their version.

use super::reuse::{body_of, served, visit};
use super::versions::{deploy, deployment};
use super::*;

const FAULTS: [&str; 2] = ["fixture-faults", "fixture-faults-service"];

async fn until_idle(guest: &Guest, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while guest.idle_count() != Some(count) {
        assert!(Instant::now() < deadline, "{:?}", guest.idle_count());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_a_free_slot_idle_instances_are_dropped_for_requests() {
    let options = RuntimeOptions {
        instances_max: 4,
        idle_instances_max: 1,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(&options).unwrap();
    for name in FAULTS {
        let mut settings = settings(name);
        settings.reuse = 100;
        let guest = Arc::new(runtime.load(settings).unwrap());
        let other = Arc::new(runtime.load(super::settings(name)).unwrap());
        for _ in 0..2 {
            // The second requests run while instances of the first are idle. Then every slot of the pool is in use.
            for guest in [&guest, &other] {
                let visits = (0..4).map(|_| visit(guest, "/sleep?100"));
                let answers = futures_util::future::join_all(visits).await;
                assert_eq!(answers, ["slept\n"; 4], "{name}");
            }
            assert_eq!(guest.idle_count(), Some(1), "{name}");
        }
    }
}

#[tokio::test]
async fn an_instance_idle_for_too_long_is_dropped() {
    let options = RuntimeOptions {
        instances_max: 4,
        instance_idle_max: Duration::from_millis(50),
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(&options).unwrap();
    let mut settings = settings("fixture-faults");
    settings.reuse = 100;
    let guest = Arc::new(runtime.load(settings).unwrap());
    for _ in 0..2 {
        assert_eq!(served(&guest).await, 0);
        assert_eq!(guest.idle_count(), Some(1));
        until_idle(&guest, 0).await;
    }
}

#[tokio::test]
async fn a_swap_leaves_no_instance_of_the_old_version() {
    let deployment = deployment(|settings| settings.reuse = 100);
    deploy(&deployment, "fixture-faults").await;
    let old = deployment.take(|| 0).unwrap();
    assert_eq!(served(&old).await, 0);
    let (_, streaming) = get(&old, "/huge?1").await.unwrap().leave();
    assert_eq!(served(&old).await, 0);
    assert_eq!(old.idle_count(), Some(1));

    deploy(&deployment, "fixture-faults-service").await;

    assert_eq!(old.idle_count(), Some(0));
    assert_eq!(served(&old).await, 0, "who has it is served by it");
    streaming.collect().await.unwrap();
    assert_eq!(old.idle_count(), Some(0), "and none of it stays");
    let new = deployment.take(|| 0).unwrap();
    assert_eq!((served(&new).await, served(&new).await), (0, 1));

    deployment.roll_back(None).unwrap();

    assert_eq!(new.idle_count(), Some(0));
    let back = deployment.take(|| 0).unwrap();
    assert_eq!((served(&back).await, served(&back).await), (0, 1));
}

#[tokio::test]
async fn idle_instances_end_with_their_version_and_free_their_slots() {
    let options = RuntimeOptions {
        instances_max: 4,
        idle_instances_max: 2,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(&options).unwrap();
    let load = || {
        let mut settings = settings("fixture-faults");
        settings.reuse = 100;
        Arc::new(runtime.load(settings).unwrap())
    };
    let (guest, other) = (load(), load());
    let permits_free = || other.idle_instances().unwrap().permits_free();
    assert_eq!(served(&guest).await, 0);
    let on_its_way = get(&guest, "/").await.unwrap();
    assert_eq!(served(&guest).await, 0);
    assert_eq!(permits_free(), 0);

    drop(guest);

    assert_eq!(body_of(on_its_way).await, "hello\n");
    let deadline = Instant::now() + Duration::from_secs(10);
    while permits_free() < 2 {
        assert!(Instant::now() < deadline, "{}", permits_free());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
