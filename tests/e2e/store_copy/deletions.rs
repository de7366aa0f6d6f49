//! Limits on the deletions of a copy's last pass.

use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::Mariadb;

use super::{file_of, ids, store, url_of, visitor};

/// A wrong target, a table that another application uses, an empty source: in all of these cases the sessions were never in the source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_half_of_the_target_is_deleted_only_where_its_number_is_named() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut other = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    for n in 0..3 {
        visitor(&other, n).await;
    }
    assert!(other.terminate().success());
    let mut source = Config::over("sqlite:sessions.sqlite")
        .guest("/s", "fixture-session")
        .start();
    let file = format!("sqlite:{}", file_of(&source).display());
    assert!(source.terminate().success());

    let to = url_of(&database);
    let copy = |further: &[&str]| {
        let mut args = vec!["copy", "--from", &file, "--to", &to, "--final"];
        args.extend(["--to-password", "env:DB_PASSWORD"]);
        args.extend(further);
        store(&args, &database.password)
    };
    let before = ids(mariadb, &database).await;
    for further in [&[][..], &["--delete", "2"]] {
        let (code, text) = copy(further);
        assert_eq!(code, Some(1), "{text}");
        let expected = "3 of the target's 3 sessions are not in the source; if they ended there, run again with `--delete 3`";
        assert!(text.contains(expected), "{text}");
        assert_eq!(ids(mariadb, &database).await, before);
    }
    let (code, text) = copy(&["--delete", "3"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("deleted 3 sessions"), "{text}");
    assert!(text.contains("verified: 0 sessions"), "{text}");
    assert!(ids(mariadb, &database).await.is_empty());
}
