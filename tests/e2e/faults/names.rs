//! Fault 42: the database's name cannot be resolved, or resolves to another address. nss_wrapper makes the system's resolver read names
//! from a file of the test.

use std::path::{Path, PathBuf};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::ChaosProxy;
use cloakroom_tests::mariadb::Mariadb;
use tokio::net::{TcpListener, TcpStream};

use super::{scripted, until};
use crate::{run_script, script};

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let found = folders
        .filter_map(|entry| Some(entry.ok()?.path().join("libnss_wrapper.so")))
        .chain([Path::new("/usr/lib/libnss_wrapper.so").to_owned()])
        .find(|path| path.is_file());
    found.expect("libnss_wrapper is missing: run tests/setup.sh")
}

/// Listens on another loopback address and forwards to the database.
async fn forwarder(port: u16, upstream_port: u16) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", upstream_port)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_changed_name_is_resolved_again_only_by_new_connections() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("hosts");
    let turns = std::cell::Cell::new(0);
    // The library compares the file's modification time in whole seconds.
    let write = |text: &str| {
        turns.set(turns.get() + 2);
        let file = std::fs::File::create(&names).unwrap();
        std::io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
        let written_at = file.metadata().unwrap().modified().unwrap();
        let time = written_at + std::time::Duration::from_secs(turns.get());
        file.set_modified(time).unwrap();
    };
    let point_to = |address: &str| {
        write(&format!(
            "{address} db.cloakroom.test\n127.0.0.1 localhost\n"
        ))
    };
    point_to("127.0.0.1");
    let url = database
        .url_through(proxy.port())
        .replace("@127.0.0.1:", "@db.cloakroom.test:");
    let host = scripted(&url)
        .store("tls = false")
        .env("LD_PRELOAD", &library().display().to_string())
        .env("NSS_WRAPPER_HOSTS", &names.display().to_string())
        .guest_with("/hello", "fixture-hello", "")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;

    // The name is gone: open connections still work.
    write("127.0.0.1 localhost\n");
    for _ in 0..5 {
        assert_eq!(script(&browser, &host, &["get n"]).await, ["1"]);
    }
    // No new connection can be opened: requests with a session receive a 503, and only the operator sees the name.
    proxy.cut();
    until(&host, "the name is asked for", async || {
        run_script(&browser, &host, &["get n"]).await.status == 503
    })
    .await;
    let refused = run_script(&browser, &host, &["get n"]).await;
    assert!(
        !refused.text.contains("db.cloakroom.test"),
        "{}",
        refused.text
    );
    assert_eq!(browser.get(&host.url("/hello")).await.text, "hello\n");
    assert!(host.log().contains("db.cloakroom.test"), "{}", host.log());

    // The name is back with another address.
    proxy.refuse().await;
    let moved = forwarder(proxy.port(), database.port).await;
    point_to("127.0.0.2");
    until(&host, "it is found again", async || {
        run_script(&browser, &host, &["get n"]).await.text == "1\n"
    })
    .await;
    assert_eq!(script(&browser, &host, &["increment n 1"]).await, ["2"]);
    moved.abort();
}
