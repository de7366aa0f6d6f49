//! Successive versions of a guest: which one serves, which is kept, which is rolled back, and which is forgotten.

use bytes::Bytes;

use super::*;
use crate::{
    Canary, ComponentSource, DeployError, DeployOutcome, DeployRequest, Deployer, Deployment,
    FailureThresholds, ProbeRequest, RequestOutcome, Rollback, RollbackError, VersionOrigin,
    VersionState,
};
use cloakroom_base::clock::Clock;

const HELLO: &str = "fixture-hello";
const COUNTER: &str = "counter";

/// Accepts every candidate that is probed at `/good`. The responses of real guests are covered by end-to-end tests.
struct Nod;

impl ProbeRequest for Nod {
    fn ask<'a>(
        &'a self,
        _: Arc<Guest>,
        path: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            match path {
                "/good" => Ok(()),
                _ => Err("it answered 500".to_owned()),
            }
        })
    }
}

pub(crate) fn deployer() -> Deployer {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    let runtime =
        RUNTIME.get_or_init(|| Arc::new(Runtime::new(&RuntimeOptions::default()).unwrap()));
    Deployer::new(Arc::clone(runtime), Box::new(Nod), Clock::manual(1_000))
}

fn bytes_of(name: &str) -> Bytes {
    std::fs::read(component(name)).unwrap().into()
}

pub(crate) fn deploy_request(bytes: Bytes) -> DeployRequest {
    DeployRequest {
        source: ComponentSource::Bytes(bytes),
        settings: None,
        origin: VersionOrigin::File,
        expected: None,
    }
}

pub(crate) async fn deploy(deployment: &Arc<Deployment>, name: &str) -> u64 {
    let deployed = deployer()
        .deploy(deployment, deploy_request(bytes_of(name)))
        .await;
    let Ok(DeployOutcome::Activated { version }) = deployed else {
        panic!("{deployed:?}");
    };
    version
}

pub(crate) fn deployment(change: impl FnOnce(&mut GuestSettings)) -> Arc<Deployment> {
    let mut settings = settings(HELLO);
    change(&mut settings);
    Deployment::new(settings)
}

fn states(deployment: &Deployment) -> Vec<(u64, &'static str)> {
    let versions = deployment.versions();
    versions
        .iter()
        .map(|version| (version.number, version.state.name()))
        .collect()
}

async fn until(deployment: &Deployment, expected: &[(u64, &'static str)]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while states(deployment) != expected {
        assert!(Instant::now() < deadline, "{:?}", states(deployment));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_request_keeps_its_version_and_the_last_request_retires_it() {
    let deployment = deployment(|_| {});
    assert!(deployment.take(|| 0).is_none(), "nothing has been admitted");
    assert_eq!(deploy(&deployment, HELLO).await, 1);
    let old = deployment.take(|| 0).unwrap();

    assert_eq!(deploy(&deployment, COUNTER).await, 2);

    assert_eq!(text(&old, "/").await, "hello\n");
    assert!(deployment.take(|| 0).unwrap().imports_session());
    assert_eq!(states(&deployment), [(2, "live"), (1, "draining")]);
    drop(old);
    until(&deployment, &[(2, "live"), (1, "retired")]).await;
    let old = &deployment.versions()[1];
    assert!(old.is_kept, "it can be gone back to");
    let component = old.component.as_ref().unwrap();
    assert_eq!(component.bytes, bytes_of(HELLO).len() as u64);
    assert_eq!(old.since_ms, 1_000);
}

#[tokio::test]
async fn the_same_component_again_is_no_new_version() {
    let deployment = deployment(|_| {});
    deploy(&deployment, HELLO).await;
    let again = deployer()
        .deploy(&deployment, deploy_request(bytes_of(HELLO)))
        .await;
    assert_eq!(again.unwrap(), DeployOutcome::Unchanged { version: 1 });
    assert_eq!(states(&deployment), [(1, "live")]);
    assert_eq!(deploy(&deployment, COUNTER).await, 2);
}

#[tokio::test]
async fn a_refused_candidate_is_recorded_with_its_reason_and_replaces_nothing() {
    let deployment = deployment(|_| {});
    deploy(&deployment, HELLO).await;
    let bad = deploy_request(Bytes::from_static(b"(component)"));

    let refused = deployer().deploy(&deployment, bad).await;

    assert!(matches!(refused, Err(DeployError::Load(_))));
    assert_eq!(states(&deployment), [(2, "failed"), (1, "live")]);
    let VersionState::Failed { reason } = &deployment.versions()[0].state else {
        panic!("it failed");
    };
    assert!(reason.contains("WebAssembly text"), "{reason}");
    assert_eq!(text(&deployment.take(|| 0).unwrap(), "/").await, "hello\n");
}

#[tokio::test]
async fn a_candidate_that_fails_its_probe_does_not_serve() {
    let good = deployment(|it| it.rollout.probe = Some("/good".to_owned()));
    deploy(&good, HELLO).await;
    let bad = deployment(|it| it.rollout.probe = Some("/bad".to_owned()));
    let refused = deployer()
        .deploy(&bad, deploy_request(bytes_of(HELLO)))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the probe of /bad failed: it answered 500"
    );
    assert!(bad.live().is_none());
}

#[tokio::test]
async fn a_proposal_for_another_version_than_the_live_one_is_stale() {
    let deployment = deployment(|_| {});
    deploy(&deployment, HELLO).await;
    let stale = DeployRequest {
        expected: Some(7),
        ..deploy_request(bytes_of(COUNTER))
    };
    let refused = deployer().deploy(&deployment, stale).await.unwrap_err();
    assert_eq!(refused.to_string(), "version 1 is live, not version 7");
    assert_eq!(states(&deployment), [(1, "live")]);
}

#[tokio::test]
async fn a_rollback_is_possible_once_and_restores_the_earlier_version() {
    let deployment = deployment(|_| {});
    deploy(&deployment, HELLO).await;
    assert_eq!(deployment.roll_back(None), Err(RollbackError::NoPrevious));
    deploy(&deployment, COUNTER).await;
    assert_eq!(
        deployment.roll_back(Some(1)),
        Err(RollbackError::Stale {
            expected: 1,
            live: 2
        })
    );

    assert_eq!(deployment.roll_back(Some(2)), Ok(1));

    assert_eq!(text(&deployment.take(|| 0).unwrap(), "/").await, "hello\n");
    until(&deployment, &[(2, "retired"), (1, "live")]).await;
    assert_eq!(deployment.roll_back(None), Err(RollbackError::NoPrevious));
    assert_eq!(deploy(&deployment, COUNTER).await, 3);
}

#[tokio::test]
async fn a_version_that_fails_too_often_is_rolled_back_automatically() {
    let deployment = deployment(|_| {});
    deploy(&deployment, HELLO).await;
    deploy(&deployment, COUNTER).await;
    let bad = deployment.take(|| 0).unwrap();

    for _ in 0..20 {
        bad.note(RequestOutcome::Served, None);
        bad.note(RequestOutcome::Trapped, None);
    }

    drop(bad);
    until(&deployment, &[(2, "failed"), (1, "live")]).await;
    let VersionState::Failed { reason } = &deployment.versions()[0].state else {
        panic!("it failed");
    };
    assert!(reason.contains("trapped"), "{reason}");
    // The same failures of the restored version have no effect, because there is no earlier one to go back to.
    let live = deployment.take(|| 0).unwrap();
    for _ in 0..40 {
        live.note(RequestOutcome::Trapped, None);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(states(&deployment), [(2, "failed"), (1, "live")]);
}

#[tokio::test]
async fn a_version_is_not_rolled_back_after_its_probation() {
    let deployment = deployment(|it| {
        it.rollout.rollback = Some(Rollback {
            probation: Duration::from_millis(1),
            thresholds: FailureThresholds {
                requests_min: 1,
                ..Rollback::default().thresholds
            },
        });
    });
    deploy(&deployment, HELLO).await;
    deploy(&deployment, COUNTER).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    deployment
        .take(|| 0)
        .unwrap()
        .note(RequestOutcome::Trapped, None);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(deployment.live_version(), 2);
}

fn with_canary(duration: Duration) -> Arc<Deployment> {
    deployment(|it| {
        it.rollout.canary = Some(Canary {
            share: 0.5,
            duration,
        });
    })
}

#[tokio::test]
async fn a_canary_serves_its_share_of_the_visitors_and_then_all() {
    let deployment = with_canary(Duration::from_millis(100));
    deploy(&deployment, HELLO).await;
    assert_eq!(
        states(&deployment),
        [(1, "live")],
        "the first version has nothing to be compared with"
    );
    deploy(&deployment, COUNTER).await;
    let version_for = |visitor: u64| deployment.take(|| visitor).unwrap().version();
    let first: Vec<u64> = (0..100).map(version_for).collect();
    let again: Vec<u64> = (0..100).map(version_for).collect();
    assert_eq!(first, again);
    assert!(first.contains(&1) && first.contains(&2));

    until(&deployment, &[(2, "live"), (1, "retired")]).await;
    assert!((0..100).all(|visitor| version_for(visitor) == 2));
}

#[tokio::test]
async fn a_failing_canary_ends_by_itself_and_a_healthy_one_by_a_rollback() {
    let deployment = with_canary(Duration::from_secs(60));
    deploy(&deployment, HELLO).await;
    deploy(&deployment, COUNTER).await;
    let canary = (0..100)
        .map(|visitor| deployment.take(|| visitor).unwrap())
        .find(|guest| guest.version() == 2)
        .unwrap();
    for _ in 0..40 {
        canary.note(RequestOutcome::Late, None);
    }
    drop(canary);
    until(&deployment, &[(2, "failed"), (1, "live")]).await;

    deploy(&deployment, COUNTER).await;
    assert_eq!(states(&deployment)[0], (3, "canary"));
    assert_eq!(deployment.roll_back(None), Ok(1));
    until(&deployment, &[(3, "retired"), (2, "failed"), (1, "live")]).await;
}

#[tokio::test]
async fn a_stream_on_an_old_version_is_cut_at_its_drain_limit() {
    let deployment = deployment(|it| it.rollout.drain_max = Duration::from_millis(50));
    deploy(&deployment, "fixture-faults").await;
    let old = deployment.take(|| 0).unwrap();
    // No reader takes the body yet, so the stream stops after its first 64 KiB.
    let stream = get(&old, "/huge?4").await.unwrap();
    drop(old);
    deploy(&deployment, COUNTER).await;
    assert_eq!(states(&deployment), [(2, "live"), (1, "draining")]);

    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(body(stream).await.unwrap_err(), GuestFailure::DrainTimeout);

    until(&deployment, &[(2, "live"), (1, "retired")]).await;
}

#[tokio::test]
async fn the_version_history_is_bounded_and_version_numbers_continue() {
    let deployment = deployment(|_| {});
    deploy(&deployment, HELLO).await;
    for _ in 0..30 {
        let bad = deploy_request(Bytes::from_static(b"bad"));
        deployer().deploy(&deployment, bad).await.unwrap_err();
    }
    let versions = states(&deployment);
    assert_eq!(versions.len(), 20);
    assert_eq!(versions[0], (31, "failed"));
    assert_eq!(*versions.last().unwrap(), (1, "live"));
}
