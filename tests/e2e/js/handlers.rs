//! Features of a JavaScript handler other than its session: cookies, routes, errors, fetch, Hono, streams, other servers.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;
use reqwest::Method;
use serde_json::json;

use super::{SCRIPTS, script, send_json, text, value};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_are_plain_json_or_signed_by_the_host() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        let set = anna.get(&host.url("/cookies/set")).await;
        let cookies = set.set_cookies();
        assert!(
            cookies[0].starts_with("plain=a%20b; Max-Age=60; Path=/; Expires="),
            "{cookies:?}"
        );
        assert_eq!(cookies[1], "json=j%3A%7B%22n%22%3A1%7D; Path=/");
        assert!(cookies[2].starts_with("signed=s%3Agold."), "{cookies:?}");
        assert!(cookies[2].ends_with("; Path=/; HttpOnly"), "{cookies:?}");
        let expected = json!({ "plain": { "plain": "a b", "json": { "n": 1 } }, "signed": { "signed": "gold" } });
        assert_eq!(
            value(&anna, &host, "/cookies").await,
            expected,
            "{component}"
        );

        anna.get(&host.url("/cookies/clear")).await;
        let cleared = value(&anna, &host, "/cookies").await;
        assert_eq!(
            cleared["plain"],
            json!({ "json": { "n": 1 } }),
            "{component}"
        );
        assert_eq!(
            text(&anna, &host, "/cookies/session").await,
            "CookieError denied"
        );

        let forger = Browser::with_cookie(&host.url("/"), "signed=s%3Agold.forged");
        let forged = value(&forger, &host, "/cookies").await;
        assert_eq!(
            forged,
            json!({ "plain": {}, "signed": { "signed": false } }),
            "{component}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_a_bare_answer_and_a_line_of_the_authors_file_in_the_log() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        for (path, log_text) in [
            ("/throw", "told to the log alone"),
            ("/reject", "rejected for the log alone"),
        ] {
            let answer = anna.get(&host.url(path)).await;
            assert_eq!(answer.status, 500, "{component}");
            assert!(!answer.text.contains(log_text), "{}", answer.text);
            host.wait_for_log(log_text).await;
        }
        host.wait_for_log("session-script.js:").await;
        let answer = anna.get(&host.url("/nowhere")).await;
        assert_eq!(answer.status, 404, "{component}");
        assert!(
            answer.text.contains("Cannot GET /nowhere"),
            "{}",
            answer.text
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_length_is_read_and_the_connection_stays_the_hosts() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        let chunks =
            futures_util::stream::iter([Ok::<_, std::io::Error>("{\"a\":"), Ok("\"Zoë\"}")]);
        let body = reqwest::Body::wrap_stream(chunks);
        let sent = anna
            .send(Method::POST, &host.url("/body"), "application/json", body)
            .await;
        assert_eq!(sent.text, r#"{"body":{"a":"Zoë"}}"#, "{component}");
        assert_eq!(sent.header("connection"), None, "{component}");
        assert_eq!(
            anna.post(&host.url("/body"), "").await.text,
            r#"{"body":null}"#
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_end_in_a_header_is_refused() {
    let host = script("js-script");
    let answer = Browser::new().get(&host.url("/header")).await;
    assert_eq!((answer.status, answer.header("x-made")), (500, None));
    assert_eq!(answer.set_cookies(), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_a_timer_is_logged() {
    let host = script("js-script");
    assert_eq!(text(&Browser::new(), &host, "/timer").await, "ok");
    host.wait_for_log("thrown by a timer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_counts_and_has_no_body() {
    for component in ["counter-js", "counter-js-starlingmonkey"] {
        let host = script(component);
        let anna = Browser::new();
        let head = anna.try_send(Method::HEAD, &host.url("/session"), "").await;
        let head = head.expect("an answer");
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{component}");
        assert_eq!(
            text(&anna, &host, "/session").await,
            "2번 접속",
            "{component}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_have_parameters_patterns_and_queries() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        let received = value(&anna, &host, "/fruit/kaki/big?a=1&a=2").await;
        let expected = json!({ "kind": "kaki", "size": "big", "a": ["1", "2"], "url": "/fruit/kaki/big?a=1&a=2", "protocol": "http" });
        assert_eq!(received, expected, "{component}");
        assert_eq!(text(&anna, &host, "/letters/abc").await, "abc");
        assert_eq!(anna.get(&host.url("/letters/1")).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_draws_random_numbers_of_its_own() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        let mut drawn = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let number = text(&anna, &host, "/random").await;
            assert!((0.0..1.0).contains(&number.parse::<f64>().expect("a number")));
            drawn.insert(number);
        }
        assert_eq!(drawn.len(), 5, "{component}: {drawn:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_instance_keeps_visitors_apart() {
    for component in ["counter-js", "counter-js-starlingmonkey"] {
        let host = Config::over("memory:")
            .guest_with("/", component, "session = \"write\"\nreuse = 100")
            .admin("")
            .start();
        let (anna, bela) = (Browser::new(), Browser::new());
        for count in 1..=5 {
            for browser in [&anna, &bela] {
                assert_eq!(
                    text(browser, &host, "/session").await,
                    format!("{count}번 접속"),
                    "{component}"
                );
            }
        }
        let metrics = anna.get(&format!("{}/metrics", host.admin())).await.text;
        let line = format!("cloakroom_guest_instances_reused_total{{guest=\"{component}0\"}} 9");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmodified_hono_app_is_served() {
    for component in ["js-hono", "js-hono-starlingmonkey"] {
        let host = script(component);
        let anna = Browser::new();
        assert_eq!(
            text(&anna, &host, "/visits").await,
            "visit 1",
            "{component}"
        );
        assert_eq!(
            text(&anna, &host, "/visits").await,
            "visit 2",
            "{component}"
        );
        assert_eq!(
            anna.post(&host.url("/likes"), "").await.text,
            r#"{"likes":1}"#
        );
        let form = anna
            .send(
                Method::POST,
                &host.url("/name"),
                "application/x-www-form-urlencoded",
                "name=Zo%C3%AB+%26+co",
            )
            .await;
        assert_eq!(form.status, 303, "{component}");
        let received = value(&anna, &host, "/name").await;
        assert_eq!(
            received,
            json!({ "name": "Zoë & co", "greeted": "yes" }),
            "{component}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_handler_has_the_session_and_the_cookies_beside_the_request() {
    let host = script("js-fetch");
    let anna = Browser::new();
    assert_eq!(
        text(&anna, &host, "/?q=a%20b").await,
        "hello stranger\nplan none\nq a b"
    );
    let received = send_json(
        &anna,
        Method::POST,
        &host.url("/"),
        &json!({ "name": "ada", "plan": "gold" }),
    )
    .await;
    assert_eq!(
        (received.status, received.text.as_str()),
        (201, r#"{"remembered":"ada"}"#)
    );
    assert_eq!(
        text(&anna, &host, "/?q=1").await,
        "hello ada\nplan gold\nq 1"
    );
    assert_eq!(anna.get(&host.url("/logout")).await.status, 303);
    assert_eq!(
        text(&anna, &host, "/").await,
        "hello stranger\nplan gold\nq null"
    );
    assert_eq!(anna.post(&host.url("/"), "{").await.status, 500);
    host.wait_for_log("SyntaxError").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stream_comes_piece_by_piece() {
    let host = script("js-stream");
    let anna = Browser::new();
    for visit in 1..=2 {
        let answer = anna.get(&host.url("/events")).await;
        assert_eq!(
            answer.header("content-type"),
            Some("text/event-stream; charset=utf-8")
        );
        assert_eq!(
            answer.text,
            format!("data: {visit}.1\n\ndata: {visit}.2\n\ndata: {visit}.3\n\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_fails_is_logged_and_breaks_off() {
    let log_text = "session key `late`: the response has been sent, so the session is read-only";
    let fetch = ["js-fetch-script", "js-fetch-script-starlingmonkey"];
    for component in SCRIPTS.into_iter().chain(fetch) {
        let host = script(component);
        let anna = Browser::new();
        let url = host.url("/stream/late");
        let answer = anna.try_send(Method::GET, &url, "").await;
        assert!(
            answer.is_err(),
            "{component}: a cut body looks whole: {}",
            answer.expect("an answer").text
        );
        host.wait_for_log(log_text).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_connection_is_an_error_and_no_wait_without_end() {
    let host = script("js-script");
    let answer = Browser::new().get(&host.url("/destroyed")).await;
    assert_eq!(answer.status, 500, "{}", answer.text);
    host.wait_for_log("the connection was destroyed before the response was complete")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_a_callback_ends_the_request_and_is_logged() {
    for component in SCRIPTS {
        let host = script(component);
        let anna = Browser::new();
        for method in ["save", "regenerate", "destroy", "reload"] {
            let answer = anna.get(&host.url(&format!("/callback/{method}"))).await;
            assert_eq!(answer.status, 500, "{component} {method}: {}", answer.text);
            host.wait_for_log(&format!("thrown by the callback of {method}"))
                .await;
        }
        assert_eq!(text(&anna, &host, "/soon").await, "ok", "{component}");
        host.wait_for_log("thrown by setImmediate").await;
        host.wait_for_log("thrown by nextTick").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starlingmonkey_asks_other_servers_where_it_is_granted() {
    let counter = Config::over("memory:").guest("/", "counter").start();
    let relay = |keys: &str| {
        let keys = format!("session = \"write\"\n{keys}");
        Config::over("memory:")
            .guest_with("/", "js-outbound", &keys)
            .start()
    };
    let anna = Browser::new();
    let path = format!("/relay?url={}", counter.url("/session"));

    let granted = relay(&format!("outbound_hosts = [\"{}\"]", counter.address()));
    let answer = anna.get(&granted.url(&path)).await;
    assert_eq!(
        answer.text,
        r#"{"relayed":1,"text":"1번 접속"}"#,
        "{}",
        granted.log()
    );

    let denied = relay("");
    let answer = anna.get(&denied.url(&path)).await;
    assert_eq!(answer.status, 500, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_a_session_logs_in_and_out() {
    let host = script("js-session");
    let anna = Browser::new();
    let cart = send_json(
        &anna,
        Method::POST,
        &host.url("/cart"),
        &json!({ "title": "tea" }),
    )
    .await;
    assert_eq!(
        (cart.status, cart.text.as_str()),
        (201, r#"{"items":[{"title":"tea"}]}"#)
    );
    let before = crate::id_of(&anna, &host);
    let login = json!({ "name": "ada", "remember": true });
    let answer = send_json(&anna, Method::POST, &host.url("/login"), &login).await;
    assert_eq!(answer.text, r#"{"welcome":"ada"}"#);
    assert!(
        answer.set_cookies()[0].contains("Expires="),
        "{:?}",
        answer.set_cookies()
    );
    let after = crate::id_of(&anna, &host);
    assert_ne!(before, after);

    assert_eq!(anna.post(&host.url("/sudo"), "").await.status, 204);
    assert_ne!(crate::id_of(&anna, &host), after);
    for votes in 1..=2 {
        let received = anna.post(&host.url("/votes"), "").await.text;
        assert_eq!(received, format!(r#"{{"votes":{votes}}}"#));
    }
    let me = value(&anna, &host, "/me").await;
    assert_eq!(
        me,
        json!({ "user": { "name": "ada" }, "isAdmin": true, "known": true })
    );
    assert_eq!(anna.post(&host.url("/logout"), "").await.status, 303);
    let me = value(&anna, &host, "/me").await;
    assert_eq!(
        me,
        json!({ "user": null, "isAdmin": false, "known": false })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_cookies_sets_and_clears_them() {
    let host = script("js-cookies");
    let anna = Browser::new();
    assert_eq!(anna.post(&host.url("/"), "").await.status, 204);
    let received = value(&anna, &host, "/").await;
    let cookies = json!({ "theme": "dark", "basket": { "items": [1, 2] } });
    assert_eq!(
        received,
        json!({ "cookies": cookies, "signedCookies": { "plan": "gold" } })
    );
    let cleared = anna.try_send(Method::DELETE, &host.url("/"), "").await;
    assert_eq!(cleared.expect("an answer").set_cookies().len(), 3);
    let received = value(&anna, &host, "/").await;
    assert_eq!(received, json!({ "cookies": {}, "signedCookies": {} }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_forms_shows_a_validation_error_once() {
    let host = script("js-forms");
    let anna = Browser::new();
    let form = "application/x-www-form-urlencoded";
    for (body, flash) in [
        ("title=+", "a title is missing"),
        ("title=Zo%C3%AB", "kept"),
    ] {
        let sent = anna
            .send(Method::POST, &host.url("/form"), form, body)
            .await;
        assert_eq!(sent.status, 303);
        let page = text(&anna, &host, "/form").await;
        assert!(page.starts_with(&format!("<p>{flash}</p>")), "{page}");
        let again = text(&anna, &host, "/form").await;
        assert!(again.starts_with("<p></p>"), "{again}");
    }
    assert_eq!(value(&anna, &host, "/titles").await, json!(["Zoë"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_an_api_keeps_notes_and_hides_its_errors() {
    let host = script("js-api");
    let anna = Browser::new();
    let note = json!({ "text": "one" });
    let made = send_json(&anna, Method::POST, &host.url("/notes"), &note).await;
    assert_eq!(
        (made.status, made.header("location")),
        (201, Some("/notes/1"))
    );
    let note = json!({ "text": "two" });
    let changed = send_json(&anna, Method::PATCH, &host.url("/notes/1"), &note).await;
    assert_eq!(changed.text, r#"{"id":1,"text":"two"}"#);
    let all = value(&anna, &host, "/notes").await;
    assert_eq!(all, json!([{ "id": 1, "text": "two" }]));
    let missing = anna.get(&host.url("/notes/2")).await;
    assert_eq!(
        (missing.status, missing.text.as_str()),
        (404, r#"{"error":"no such note"}"#)
    );
    let broken = anna
        .send(Method::POST, &host.url("/notes"), "application/json", "{")
        .await;
    assert_eq!(broken.status, 400, "{}", broken.text);
    assert_eq!(anna.get(&host.url("/broken")).await.status, 500);
    host.wait_for_log("the reason is for the log alone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_typescript_sums_a_cart() {
    let host = script("js-typed");
    let anna = Browser::new();
    for (price, views) in [(3, 1), (4, 2)] {
        let item = json!({ "title": "tea", "price": price });
        let put = send_json(&anna, Method::POST, &host.url("/cart"), &item).await;
        assert_eq!(put.text, format!(r#"{{"views":{views}}}"#));
    }
    assert_eq!(value(&anna, &host, "/cart").await, json!({ "total": 7 }));
}
