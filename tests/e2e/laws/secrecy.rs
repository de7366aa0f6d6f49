//! The ninth law: no secret appears in any log, error or `Debug` output.

use bytes::Bytes;
use cloakroom_session::CookieChange;
use cloakroom_session::cookie::{CookieResolution, KeyRing, Secret, take_from};
use cloakroom_session::record::{CookieAttributes, SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{Commit, RowChange, RowVersion};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::ChaosProxy;
use cloakroom_tests::mariadb::Mariadb;
use reqwest::header::{COOKIE, HeaderMap};

use super::scripted;
use crate::{id_of, run_script};

/// Law 9: ids, secrets, cookie values and session data appear in no log and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_reaches_the_log() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port()))
        .top("[log]\nlevel = \"trace\"")
        .start();
    let browser = Browser::new();
    let mut output = String::new();
    let mut secrets = vec![
        cloakroom_tests::host::SECRET.to_owned(),
        database.password.clone(),
        "MY-DATA".to_owned(),
        "MY-FORGERY".to_owned(),
    ];
    for lines in [
        &["set k \"MY-DATA\"", "get k"][..],
        &["renew"],
        &["set k \"MY-DATA\"", "trap"],
        &["regenerate", "set k \"MY-DATA\"", "save"],
        &["set k 1"],
    ] {
        let answer = run_script(&browser, &host, lines).await;
        output += &answer.text.replace("\"MY-DATA\"", "");
        let cookie = browser.cookies(&host.url("/")).unwrap();
        let signature = cookie.split('.').next_back().unwrap();
        secrets.extend([id_of(&browser, &host), signature.to_owned()]);
    }
    let other = Browser::new();
    let written = [
        r#"set-cookie {"name":"mine","text":"MY-DATA","signed":true}"#,
        r#"set-cookie {"name":"connect.sid","text":"MY-DATA"}"#,
        r#"set-cookie {"name":"mine","json":"{MY-DATA"}"#,
    ];
    for lines in [&written[..], &["cookies"]] {
        let text = run_script(&other, &host, lines).await.text;
        output += &text.replace("\"MY-DATA\"", "");
    }
    let mine = other.cookies(&host.url("/")).unwrap();
    secrets.push(mine.rsplit_once('.').unwrap().1.to_owned());
    let forged = format!("connect.sid=s%3A{}.MY-FORGERY", id_of(&browser, &host));
    let forger = Browser::with_cookie(&host.url("/"), &forged);
    output += &run_script(&forger, &host, &["get k"]).await.text;
    proxy.refuse().await;
    output += &run_script(&browser, &host, &["get k"]).await.text;
    host.wait_for_log("status=503").await;
    let log = host.log() + &output;
    for secret in secrets {
        assert!(!log.contains(&secret), "the log holds {secret:?}");
    }
    assert!(log.lines().count() > 5, "there is a log to look at");
    let is_of_a_library = log.contains(" wasmtime::runtime::");
    assert!(
        !is_of_a_library,
        "a library logs the data that passes through it"
    );
}

/// Law 9: `Debug` does not show them either, since its output easily reaches a log.
#[test]
fn debug_shows_no_secret() {
    let id = SessionId::from_foreign("MY-ID").unwrap();
    let record = SessionRecord {
        data: Bytes::from_static(br#"{"cookie":{},"k":"MY-DATA"}"#),
        expires_at_s: 1,
        tokens: TokenHistory::default(),
        created_at_s: None,
    };
    let update = RowChange::Update {
        base: RowVersion::of(&record),
        record: record.clone(),
        new_id: Some(id.clone()),
    };
    let commits = [RowChange::Create(record), update].map(|change| Commit {
        id: id.clone(),
        change,
    });
    let keys = KeyRing::new(vec![Secret::new(b"MY-SECRET".to_vec())]).unwrap();
    let value = keys.sign(&id);
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, format!("sid={value}").parse().unwrap());
    let presented = take_from(&mut headers, "sid");
    let resolved = presented.resolve(&keys);
    assert_eq!(resolved, CookieResolution::Valid(id));
    let signature = value.split('.').next_back().unwrap().to_owned();
    let change = CookieChange::Set {
        value,
        attributes: CookieAttributes::default(),
    };
    let shown = format!("{commits:?} {keys:?} {presented:?} {resolved:?} {change:?}");
    for secret in ["MY-ID", "MY-DATA", "MY-SECRET", &signature] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
