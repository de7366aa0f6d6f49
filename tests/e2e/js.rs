//! Guests in JavaScript on both engines: the features that Express developers rely on, and the data that `req.session` never loses.

mod handlers;

use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::express::Express;
use cloakroom_tests::host::{Config, Host, SECRET};
use cloakroom_tests::mariadb::Mariadb;
use reqwest::Method;
use serde_json::{Value, json};

/// The scriptable guest on each engine.
const SCRIPTS: [&str; 2] = ["js-script", "js-script-starlingmonkey"];

fn script(component: &str) -> Host {
    Config::over("memory:").guest("/", component).start()
}

/// Returns a visitor whose session contains `data`.
async fn visitor(host: &Host, data: Value) -> Browser {
    let browser = Browser::new();
    let answer = send_json(&browser, Method::PUT, &host.url("/all"), &data).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "ok"));
    browser
}

async fn send_json(browser: &Browser, method: Method, url: &str, value: &Value) -> Answer {
    browser
        .send(method, url, "application/json", value.to_string())
        .await
}

async fn text(browser: &Browser, host: &Host, path: &str) -> String {
    browser.get(&host.url(path)).await.text
}

async fn value(browser: &Browser, host: &Host, path: &str) -> Value {
    let text = text(browser, host, path).await;
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}\n{}", host.log()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_inside_a_value_is_kept() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = visitor(&host, json!({ "cart": { "items": ["fig"] } })).await;
        assert_eq!(text(&anna, &host, "/nested/push").await, "ok");
        let all = value(&anna, &host, "/all").await;
        assert_eq!(all["cart"]["items"], json!(["fig", "pear"]), "{component}");
        assert_eq!(text(&anna, &host, "/keys").await, r#"["cookie","cart"]"#);
        let whole = value(&anna, &host, "/text").await;
        assert_eq!(whole["cookie"]["path"], "/", "{component}: {whole}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_no_json_is_refused_by_the_name_of_its_key() {
    let host = script("js-script");
    let anna = visitor(&host, json!({ "cart": { "items": [] } })).await;
    let received = text(&anna, &host, "/nested/cycle").await;
    assert!(
        received.starts_with("invalid: session key `cart` is not JSON: "),
        "{received}"
    );
    let silent = anna.get(&host.url("/nested/cycle/silent")).await;
    assert_eq!(silent.status, 500, "{}", silent.text);
    assert!(!silent.text.contains("not reached"), "{}", silent.text);
    host.wait_for_log("session key `cart` is not JSON").await;
    assert_eq!(
        value(&anna, &host, "/all").await,
        json!({ "cart": { "items": [] } })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_after_the_answer_throws_and_changes_nothing() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = visitor(&host, json!({ "cart": { "items": ["fig"] } })).await;
        for (path, log_text) in [
            (
                "/late/write",
                "session key `late`: the response has been sent, so the session is read-only",
            ),
            ("/late/nested", "TypeError: "),
            (
                "/late/async",
                "session key `late`: the response has been sent, so the session is read-only",
            ),
            (
                "/late/headers",
                "Cannot set a header after it has been sent",
            ),
            (
                "/late/date",
                "session key `when` was changed after the response had been sent: the change is lost",
            ),
        ] {
            let before = host.log_count(log_text);
            assert_eq!(text(&anna, &host, path).await, "sent", "{component} {path}");
            // StarlingMonkey stops the handler when the answer ends, so code after an `await` does not run.
            if !(path == "/late/async" && component.ends_with("starlingmonkey")) {
                host.wait_for_log_count(log_text, before + 1).await;
            }
        }
        let all = value(&anna, &host, "/all").await;
        let expected = json!({ "cart": { "items": ["fig"] }, "when": "1970-01-01T00:00:00.000Z" });
        assert_eq!(all, expected, "{component}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integer_that_a_number_cannot_hold_is_refused_in_both_directions() {
    for component in SCRIPTS {
        let host = Config::over("memory:")
            .guest("/s", "fixture-session")
            .guest("/", component)
            .start();
        let anna = Browser::new();
        let lines = [
            r#"set big {"deep":[1,9007199254740993],"text":"9007199254740993"}"#,
            "set n 9007199254740990",
            "set f 1e400",
        ];
        crate::script(&anna, &host, &lines).await;

        let read = text(&anna, &host, "/big/read").await;
        assert_eq!(
            read,
            "invalid: session key `big` holds the number 9007199254740993, which a JavaScript number cannot hold exactly",
            "{component}"
        );
        let write = text(&anna, &host, "/big/write").await;
        assert!(
            write.starts_with("invalid: session key `n` (at `0`) is an integer beyond 2^53-1"),
            "{write}"
        );
        let bigint = text(&anna, &host, "/big/bigint").await;
        assert!(
            bigint.starts_with("invalid: session key `n` (at `deep`) is a BigInt"),
            "{bigint}"
        );
        let age = text(&anna, &host, "/big/age").await;
        assert!(
            age.starts_with("invalid: cookie.maxAge: 1152921504606846976"),
            "{age}"
        );

        // Values that the handler does not change keep their bytes.
        assert_eq!(text(&anna, &host, "/big/other").await, "ok");
        let stored = crate::script(&anna, &host, &["get big", "get n", "get f", "get other"]).await;
        assert_eq!(
            stored[0],
            r#"{"deep":[1,9007199254740993],"text":"9007199254740993"}"#
        );
        assert_eq!(
            stored[1..],
            ["9007199254740990", "1e400", "1"],
            "{component}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_that_a_number_cannot_hold_is_refused_and_taken_back() {
    for component in SCRIPTS {
        let host = Config::over("memory:")
            .guest("/s", "fixture-session")
            .guest("/", component)
            .start();
        let anna = Browser::new();
        crate::script(&anna, &host, &["set big 9007199254740991"]).await;
        let sum = text(&anna, &host, "/big/increment").await;
        assert!(
            sum.starts_with("invalid: session key `big` would be about 9007199254740992"),
            "{component}: {sum}"
        );
        let stored = crate::script(&anna, &host, &["get big", "increment big 1"]).await;
        assert_eq!(
            stored,
            ["9007199254740991", "9007199254740992"],
            "{component}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_negative_number_is_added_as_it_is() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        assert_eq!(text(&anna, &host, "/less").await, "[-3,-4]", "{component}");
        assert_eq!(value(&anna, &host, "/all").await, json!({ "less": -4 }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_json_omits_exist_only_during_the_request() {
    let host = script("js-script");
    let anna = visitor(&host, json!({ "gone": 1 })).await;
    assert_eq!(
        value(&anna, &host, "/invisible").await,
        json!({ "call": "function" })
    );
    let all = value(&anna, &host, "/all").await;
    assert_eq!(
        all,
        json!({ "when": "1970-01-01T00:00:00.000Z", "kept": { "n": 1 } })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regenerate_takes_a_callback_or_is_awaited_and_stale_values_throw() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = visitor(&host, json!({ "user": "ada", "cart": { "items": [] } })).await;
        let before = crate::id_of(&anna, &host);
        let stored = value(&anna, &host, "/regenerate/promise").await;
        assert_eq!(
            stored,
            json!(["SessionError", "SessionError", "TypeError"]),
            "{component}"
        );
        assert_ne!(crate::id_of(&anna, &host), before);
        assert_eq!(
            value(&anna, &host, "/all").await,
            json!({ "cart": { "items": ["kept"] } })
        );

        let bela = visitor(&host, json!({ "user": "bela", "cart": 1 })).await;
        let keys = value(&bela, &host, "/regenerate/callback").await;
        assert_eq!(keys, json!({ "keys": ["cookie", "user"] }), "{component}");
        assert_eq!(value(&bela, &host, "/all").await, json!({ "user": "bela" }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_destroy_nothing_is_read_and_a_write_throws() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = visitor(&host, json!({ "cart": { "items": [] } })).await;
        let destroyed = value(&anna, &host, "/destroy/promise").await;
        let expected =
            json!({ "after": ["invalid", "TypeError", "undefined"], "session": "undefined" });
        assert_eq!(destroyed, expected, "{component}");
        assert_eq!(
            anna.cookies(&host.url("/")),
            None,
            "the browser dropped the cookie"
        );
        assert_eq!(value(&anna, &host, "/all").await, json!({}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_the_session_to_null_ends_it() {
    let host = script("js-script");
    let anna = visitor(&host, json!({ "user": "ada" })).await;
    assert_eq!(
        value(&anna, &host, "/unset").await,
        json!({ "session": null })
    );
    assert_eq!(value(&anna, &host, "/all").await, json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_after_a_save_are_kept_and_changes_before_a_reload_dropped() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = visitor(&host, json!({ "cart": { "items": [] } })).await;
        assert_eq!(
            value(&anna, &host, "/save/callback").await,
            json!({ "error": null })
        );
        let saved = json!({ "cart": { "items": ["saved", "after"] } });
        assert_eq!(value(&anna, &host, "/all").await, saved, "{component}");
        let reloaded = value(&anna, &host, "/reload/promise").await;
        assert_eq!(
            reloaded,
            json!({ "items": ["saved", "after"], "same": false }),
            "{component}"
        );
        assert_eq!(value(&anna, &host, "/all").await, saved, "{component}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_attributes_of_a_session_s_cookie_are_express_s_words() {
    let cookie = "cookie = { same_site = \"none\", secure = true, priority = \"high\" }";
    for component in SCRIPTS {
        let plain = value(&Browser::new(), &script(component), "/attributes").await;
        let expected = json!({ "originalMaxAge": null, "partitioned": false, "expires": null, "secure": false,
            "httpOnly": true, "path": "/", "sameSite": "lax" });
        assert_eq!(plain, expected, "{component}");
        let config = Config::over("memory:").session(cookie);
        let host = config.guest("/", component).start();
        let chosen = value(&Browser::new(), &host, "/attributes").await;
        assert_eq!(
            (&chosen["sameSite"], &chosen["priority"]),
            (&json!("none"), &json!("high")),
            "{component}: {chosen}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lifetime_of_a_session_is_set_in_milliseconds() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        let set = anna.get(&host.url("/age")).await;
        let received: Value = serde_json::from_str(&set.text).expect(&set.text);
        let expected = json!({ "near": true, "originalMaxAge": 60_000, "isDate": true, "httpOnly": true, "path": "/" });
        assert_eq!(received, expected, "{component}");
        assert!(
            set.set_cookies()[0].contains("Expires="),
            "{:?}",
            set.set_cookies()
        );
        let none = anna.get(&host.url("/age/none")).await;
        assert_eq!(none.text, r#"{"maxAge":null}"#, "{component}");
        assert!(
            !none.set_cookies()[0].contains("Expires="),
            "{:?}",
            none.set_cookies()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_id_that_a_guest_sees_is_a_name_and_no_credential() {
    let host = script("js-script");
    let anna = Browser::new();
    assert_eq!(
        value(&anna, &host, "/id").await,
        json!({ "id": null, "same": true })
    );
    let anna = visitor(&host, json!({ "user": "ada" })).await;
    let received = value(&anna, &host, "/id").await;
    assert_ne!(received["id"], crate::id_of(&anna, &host));
    assert!(received["id"].is_string(), "{received}");
    assert_eq!(
        value(&anna, &host, "/id").await,
        received,
        "it stays the same"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_outside_the_grant_is_an_error_with_a_code() {
    let host = Config::over("memory:")
        .guest_with(
            "/",
            "js-script",
            "session = \"write\"\nwrite_keys = [\"cart\"]",
        )
        .start();
    let anna = Browser::new();
    let received = text(&anna, &host, "/denied").await;
    assert!(
        received.starts_with("denied: session key `secret`: "),
        "{received}"
    );

    let reader = Config::over("memory:")
        .guest_with("/", "js-script", "session = \"read\"")
        .start();
    let unawaited = anna.get(&reader.url("/denied/unawaited")).await;
    assert_eq!(unawaited.status, 500, "{}", unawaited.text);
    reader.wait_for_log("SessionError: session: ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_shared_with_an_express_app_of_the_same_code() {
    let database = Mariadb::shared().await.fresh_database().await;
    let options =
        json!({ "name": "sessionId", "secret": SECRET, "cookie": { "maxAge": 86_400_000 } });
    let express = Express::start(&database.for_express(), &options);
    let host = Config::over(&database.url)
        .session("name = \"sessionId\"\ncookie = { max_age = \"24h\" }")
        .store("alter_table = true")
        .guest("/", "js-script")
        .start();
    let anna = Browser::new();
    anna.get(&express.url("/set?key=cart&value={\"items\":[\"fig\"]}"))
        .await;
    assert_eq!(text(&anna, &host, "/nested/push").await, "ok");
    let theirs = anna.get(&express.url("/all")).await;
    let theirs: Value = serde_json::from_str(&theirs.text).expect("JSON");
    assert_eq!(theirs["data"]["cart"]["items"], json!(["fig", "pear"]));
    let ours = value(&anna, &host, "/text").await;
    assert_eq!(ours["cart"], theirs["data"]["cart"]);
    assert_eq!(
        ours["cookie"]["originalMaxAge"],
        theirs["data"]["cookie"]["originalMaxAge"]
    );
}
