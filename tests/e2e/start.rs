//! The start of the host: its messages on success, and its exit when its store is unavailable.

use std::process::{Command, Output};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, SECRET, binary, component};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::port::Port;

/// Runs `cloakroom serve` on the store at `url` until it exits.
fn fails(url: &str, makes_the_table: bool) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(binary())
        .arg("serve")
        .arg(component("counter"))
        .args(["--listen", "127.0.0.1:0"])
        .env("CLOAKROOM_STORE_URL", url)
        .env("CLOAKROOM_SESSION_SECRETS", SECRET)
        .env(
            "CLOAKROOM_STORE_CREATE_DATABASE_TABLE",
            makes_the_table.to_string(),
        )
        .current_dir(&directory)
        .output()
        .unwrap();
    let output = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (status.code(), output.concat())
}

#[test]
fn a_database_that_is_not_there_is_a_failure_not_a_fault() {
    let own = Port::free();
    let port = own.number();
    let (code, output) = fails(&format!("mysql://ann:hunter2@127.0.0.1:{port}/app"), true);
    assert_eq!(code, Some(1), "{output}");
    let expected = format!("cloakroom: the session store cannot be reached: 127.0.0.1:{port}: ");
    assert!(output.contains(&expected), "{output}");
    assert!(output.contains("start the database"), "{output}");
    assert_eq!(
        output.matches("waiting for the session store").count(),
        1,
        "{output}"
    );
    assert!(!output.contains("in the configuration"), "{output}");
    assert!(!output.contains("hunter2"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_database_setting_is_a_fault_with_its_key() {
    let database = Mariadb::shared().await.fresh_database().await;
    let url = |password: &str, name: &str| {
        let (user, port) = (&database.user, database.port);
        format!("mysql://{user}:{password}@127.0.0.1:{port}/{name}")
    };
    let cases = [
        (
            url("wr0ng-pa55word", &database.name),
            "store.user: ",
            "correct user and password",
        ),
        (
            url(&database.password, "nowhere"),
            "store.database: ",
            "create it",
        ),
        (
            url(&database.password, &database.name),
            "store.schema.table_name: there is no table `sessions`",
            "CREATE TABLE",
        ),
    ];
    for (url, problem, remedy) in cases {
        let (code, output) = fails(&url, false);
        assert_eq!(code, Some(2), "{output}");
        for text in [problem, remedy, "1 fault in the configuration"] {
            assert!(output.contains(text), "nothing of {text}:\n{output}");
        }
        for secret in ["wr0ng-pa55word", &database.password] {
            assert!(!output.contains(secret), "{output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_startup_message_names_an_address_that_opens_and_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command
        .arg("serve")
        .arg(component("counter"))
        .args(["--listen", "0.0.0.0:0", "--store", "memory:"])
        .current_dir(directory.path());
    let host = Host::spawn(command, directory);
    assert!(host.address().ip().is_loopback(), "{}", host.address());
    assert_eq!(Browser::new().get(&host.url("/session")).await.status, 200);
    host.wait_for_log("Sessions are kept in memory: they end with this process.")
        .await;
    host.wait_for_log(&format!(
        "It listens on all addresses of this machine, port {}.",
        host.address().port()
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_startup_message_names_the_database_but_not_its_account() {
    let database = Mariadb::shared().await.fresh_database().await;
    let host = Config::over(&database.url)
        .guest("/session", "counter")
        .start();
    host.wait_for_log(&format!(
        "Sessions are kept in MySQL at 127.0.0.1:{}, database {}, table sessions.",
        database.port, database.name
    ))
    .await;
    let account = format!("{}@", database.user);
    for secret in [&database.password, &account] {
        assert!(!host.log().contains(secret), "{}", host.log());
    }
}
