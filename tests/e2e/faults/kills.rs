//! Fault 22: `kill -9` in each phase of a request that commits. The request takes effect once or not at all, an answer proves that it took
//! effect, and the other host continues at once because no row stays locked.

use std::time::{Duration, Instant};

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::pause;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{number, scripted};
use crate::script;

/// The phase of a request in which its host is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head of the request is on its way.
    BeforeTheGuest,
    /// The guest sleeps after it has read and changed the session.
    InTheGuest,
    /// The commit has left the host and has not reached the database.
    CommitUnderWay,
    /// The commit is durable, but the host does not know that yet.
    BeforeTheReply,
    /// Part of the answer has arrived.
    InTheAnswer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_killed_in_any_phase_leaves_its_commit_whole_or_undone_and_nothing_locked() {
    use Phase::{BeforeTheGuest, BeforeTheReply, CommitUnderWay, InTheAnswer, InTheGuest};
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let other = scripted(&database.url).start();
    let browser = Browser::new();
    script(&browser, &other, &["set n 0"]).await;
    let cookie = browser.cookies(&other.url("/")).unwrap();
    let mut expected = 0;
    for phase in [
        BeforeTheGuest,
        InTheGuest,
        CommitUnderWay,
        BeforeTheReply,
        InTheAnswer,
    ] {
        let config = scripted(&database.url_through(proxy.port()));
        let mut host = config.admin("").start();
        let operator = Operator::of(&host);
        // Opens the host's database connections and loads the guest's code.
        let twin = Browser::with_cookie(&host.url("/"), &cookie);
        script(&twin, &host, &["get n"]).await;
        let loads = operator.loads().await;
        let (before, disturbed) = (proxy.losses(), proxy.disturbances());
        match phase {
            CommitUnderWay => proxy.disturb(once(Loss::Late(Duration::from_millis(400)))),
            BeforeTheReply => proxy.disturb(once(Loss::ReplyNever)),
            _ => {}
        }
        let body = match phase {
            InTheGuest => "increment n 1\nsleep 5000",
            InTheAnswer => "increment n 1\nhead\nbody 8000000",
            _ => "increment n 1",
        };
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let head = format!(
            "POST /s HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        match phase {
            BeforeTheGuest => {}
            InTheGuest => operator.wait_for_loads(loads + 1).await,
            CommitUnderWay => proxy.wait_for_disturbances(disturbed + 1).await,
            BeforeTheReply => proxy.wait_for_losses(before + 1).await,
            InTheAnswer => {
                let mut first = [0; 4096];
                stream.read_exact(&mut first).await.unwrap();
                assert!(first.starts_with(b"HTTP/1.1 200"));
            }
        }
        host.kill();
        let killed_at = Instant::now();
        let now = number(&script(&browser, &other, &["increment n 1"]).await[0]);
        assert!(
            killed_at.elapsed() < Duration::from_secs(5),
            "{phase:?}: the other host waited for {:?}",
            killed_at.elapsed()
        );
        proxy.calm();
        // The late statement was first, or it finds a newer version of the row.
        let longer = Duration::from_millis(500);
        pause(longer, "the late statement arrives and changes nothing").await;
        let settled = number(&script(&browser, &other, &["get n"]).await[0]);
        eprintln!("{phase:?}: {expected}, then {now}, at last {settled}");
        assert_eq!(
            settled, now,
            "{phase:?}: a late commit came over another one"
        );
        let effect = settled - expected - 1;
        match phase {
            InTheGuest => assert_eq!(effect, 0, "{phase:?}"),
            BeforeTheReply | InTheAnswer => assert_eq!(effect, 1, "{phase:?}"),
            BeforeTheGuest | CommitUnderWay => assert!(effect <= 1, "{phase:?}: {effect}"),
        }
        expected = settled;
    }
}

fn once(loss: Loss) -> Disturbance {
    Disturbance {
        loss,
        prefix: "UPDATE".into(),
        every: 1,
        times: 1,
    }
}
