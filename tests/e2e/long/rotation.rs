//! Requirement 5: a host that is killed while it gives a session a new id leaves exactly one id.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::{Database, Mariadb};
use cloakroom_tests::wait::pause;
use futures_util::future::join;
use reqwest::Method;

use crate::{script, sqlite_rows};

const ROUNDS: u32 = 30;

/// The store of the rows.
enum Place {
    File(PathBuf),
    Database(Database),
}

impl Place {
    fn config(&self) -> Config {
        let url = match self {
            Self::File(path) => format!("sqlite:{}", path.display()),
            Self::Database(database) => database.url.clone(),
        };
        Config::over(&url).guest("/s", "fixture-session")
    }

    async fn ids(&self) -> BTreeSet<String> {
        match self {
            Self::File(path) => sqlite_rows(path).into_iter().map(|row| row.0).collect(),
            Self::Database(database) => {
                let rows = database.sessions().await;
                rows.into_iter().map(|row| row.id).collect()
            }
        }
    }
}

/// Returns the content that a visitor with this cookie reads.
async fn read(host: &Host, cookie: &str) -> String {
    let visitor = Browser::with_cookie(&host.url("/"), cookie);
    script(&visitor, host, &["get n"]).await.remove(0)
}

async fn begin(host: &Host) -> String {
    let visitor = Browser::new();
    script(&visitor, host, &["set n 7"]).await;
    visitor.cookies(&host.url("/")).unwrap()
}

async fn a_killed_rotation_leaves_one_id(place: &Place) {
    let config = place.config();
    let mut host = config.start();
    let mut cookie = begin(&host).await;
    // The first renewal after a host's start is its slowest. The kills are distributed over twice that time.
    let start = Instant::now();
    script(
        &Browser::with_cookie(&host.url("/"), &begin(&host).await),
        &host,
        &["renew"],
    )
    .await;
    let spread = start.elapsed() * 2;
    let mut abandoned = place.ids().await;
    abandoned.retain(|id| !cookie.contains(id));
    let (mut answered, mut unmoved) = (0, 0);
    for round in 0..ROUNDS {
        let visitor = Browser::with_cookie(&host.url("/"), &cookie);
        let url = host.url("/s");
        let pid = rustix::process::Pid::from_raw(host.id().cast_signed()).unwrap();
        let request = visitor.try_send(Method::POST, &url, "get n\nrenew");
        let kill = async {
            let delay = spread * round / ROUNDS;
            pause(delay, "each round kills the host at another moment").await;
            // A direct system call, because starting a program that sends the signal takes longer than the renewal.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        let (answer, ()) = join(request, kill).await;
        // A statement sent before the kill may still be on its way to the database.
        host.kill();
        pause(Duration::from_millis(200), "the last statement arrives").await;
        host = config.start();
        let mut ids = place.ids().await;
        ids.retain(|id| !abandoned.contains(id));
        assert_eq!(ids.len(), 1, "round {round}: one row under one id");
        let id = ids.into_iter().next().unwrap();
        let is_old = cookie.contains(&id);
        assert_eq!(
            read(&host, &cookie).await,
            if is_old { "7" } else { "none" },
            "round {round}"
        );
        match answer {
            Ok(answer) => {
                answered += 1;
                assert_eq!((answer.status, answer.text.as_str()), (200, "7\nok\n"));
                assert!(
                    !is_old,
                    "round {round}: an answer is sent only after the commit"
                );
                cookie = visitor.cookies(&url).unwrap();
                assert_eq!(read(&host, &cookie).await, "7", "round {round}: the new id");
            }
            Err(_) if is_old => unmoved += 1,
            Err(_) => {
                // The session moved and the answer was lost, so no visitor has the new id.
                abandoned.insert(id);
                cookie = begin(&host).await;
            }
        }
    }
    eprintln!(
        "{ROUNDS} kills: {answered} answered, {unmoved} before the commit, the others after it"
    );
    assert!(answered > 0 && unmoved > 0, "the kills hit both sides");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_killed_during_a_rotation_leaves_one_id_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let file: &Path = &directory.path().join("sessions.sqlite");
    a_killed_rotation_leaves_one_id(&Place::File(file.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_killed_during_a_rotation_leaves_one_id_on_mysql() {
    let database = Mariadb::shared().await.fresh_database().await;
    a_killed_rotation_leaves_one_id(&Place::Database(database)).await;
}
