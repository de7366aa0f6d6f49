//! The Rust SDK: the behavior of its examples (`guests/sdk/rust/examples`) for a visitor.

use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::{Config, Host};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A visitor of one example, which is routed at `/`.
struct Visit {
    host: Host,
    browser: Browser,
}

impl Visit {
    fn of(example: &str) -> Self {
        Self::with(&Config::over("memory:").guest("/", example))
    }

    fn with(config: &Config) -> Self {
        let (host, browser) = (config.start(), Browser::new());
        Self { host, browser }
    }

    async fn get(&self, path: &str) -> Answer {
        self.browser.get(&self.host.url(path)).await
    }

    async fn text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text, self.host.log());
        answer.text
    }

    async fn post(&self, path: &str) -> Answer {
        self.browser.post(&self.host.url(path), "").await
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: &str) -> Answer {
        let url = self.host.url(path);
        let sent = self
            .browser
            .send(method, &url, content_type, body.to_owned());
        sent.await
    }
}

/// Returns the status and the location.
fn redirect(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("location"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_renews_the_session_and_a_logout_ends_it() {
    let visit = Visit::of("example-session");
    assert_eq!(visit.text("/").await, "hello, stranger\n");
    let before = visit.browser.cookies(&visit.host.url("/"));
    assert!(before.is_some());

    let login = visit.post("/login/ada%20l?remember").await;
    assert_eq!(redirect(&login), (303, Some("/")));
    assert_eq!(visit.text("/").await, "hello, ada l\n");
    assert_eq!(visit.text("/entries").await, "visits, user; 2592000 s\n");
    assert_ne!(visit.browser.cookies(&visit.host.url("/")), before);
    let planted = Browser::with_cookie(&visit.host.url("/"), &before.unwrap());
    let answer = planted.get(&visit.host.url("/")).await;
    assert_eq!(answer.text, "hello, stranger\n");

    assert_eq!(redirect(&visit.post("/logout").await), (303, Some("/")));
    assert_eq!(visit.browser.cookies(&visit.host.url("/")), None);
    assert_eq!(visit.text("/").await, "hello, stranger\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typed_entry_is_changed_in_place_and_taken() {
    let visit = Visit::of("example-cart");
    assert_eq!(visit.text("/cart").await, r#"{"lines":[]}"#);
    for item in ["umbrella", "hat", "umbrella"] {
        let added = visit.post(&format!("/cart/{item}")).await;
        assert_eq!(redirect(&added), (303, Some("/cart")));
    }
    let umbrellas = r#"{"item":"umbrella","count":2}"#;
    let both = format!(r#"{{"lines":[{umbrellas},{{"item":"hat","count":1}}]}}"#);
    assert_eq!(visit.text("/cart").await, both);

    let removed = visit.send(Method::DELETE, "/cart/hat", JSON, "").await;
    assert_eq!(removed.status, 204);
    let removed = visit.send(Method::DELETE, "/cart/hat", JSON, "").await;
    assert_eq!(removed.status, 404);

    let sold = visit.post("/cart/checkout").await;
    let one = format!(r#"{{"lines":[{umbrellas}]}}"#);
    assert_eq!((sold.status, sold.text), (201, one));
    let again = visit.post("/cart/checkout").await;
    assert_eq!((again.status, &*again.text), (409, "the cart is empty\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_updates_of_one_entry_lose_nothing() {
    let visit = Visit::of("example-cart");
    visit.text("/cart").await;
    visit.post("/cart/hat").await;
    let adds = (0..20).map(|_| visit.post("/cart/hat"));
    for added in futures_util::future::join_all(adds).await {
        assert_eq!(added.status, 303, "{}\n{}", added.text, visit.host.log());
    }
    let expected = r#"{"lines":[{"item":"hat","count":21}]}"#;
    assert_eq!(visit.text("/cart").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_another_shape_is_a_500_and_its_data_stays_out_of_the_log() {
    let config = Config::over("memory:")
        .guest("/s", "fixture-session")
        .guest("/", "example-cart");
    let visit = Visit::with(&config);
    let odd = r#"set cart {"lines":"a secret"}"#;
    let set = visit.browser.post(&visit.host.url("/s"), odd).await;
    assert_eq!(set.text, "ok\n");
    let answer = visit.get("/cart").await;
    assert_eq!(
        (answer.status, &*answer.text),
        (500, "internal server error\n")
    );
    visit
        .host
        .wait_for_log("`cart`: not the expected shape: expected a sequence")
        .await;
    assert!(!visit.host.log().contains("a secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_read_and_its_message_is_shown_once() {
    let visit = Visit::of("example-forms");
    let body = "text=1%EB%B2%88+%3Cb%3E&topics=rain&topics=coats";
    let sent = visit.send(Method::POST, "/book", FORM, body).await;
    assert_eq!(redirect(&sent), (303, Some("/book")));
    let page = visit.text("/book").await;
    assert!(page.contains("<p class=\"info\">Thank you.</p>"), "{page}");
    assert!(page.contains("<li>1번 &lt;b> (rain, coats)</li>"), "{page}");
    let page = visit.text("/book").await;
    assert!(!page.contains("<p "), "{page}");

    let empty = visit.send(Method::POST, "/book", FORM, "text=+").await;
    assert_eq!(redirect(&empty), (303, Some("/book")));
    let page = visit.text("/book").await;
    assert!(
        page.contains("<p class=\"error\">Write something first.</p>"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_form_is_refused_with_its_reason() {
    let visit = Visit::of("example-forms");
    let other = visit.send(Method::POST, "/book", JSON, "{}").await;
    assert_eq!(other.status, 415, "{}", other.text);
    let missing = visit.send(Method::POST, "/book", FORM, "txt=a").await;
    assert_eq!(
        (missing.status, &*missing.text),
        (422, "form: missing field `text`\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_goes_in_and_out_and_queries_are_typed() {
    let visit = Visit::of("example-json");
    for (index, title) in ["a", "b", "c"].iter().enumerate() {
        let body = format!(r#"{{"title":"{title}"}}"#);
        let made = visit.send(Method::POST, "/notes", JSON, &body).await;
        let place = format!("/notes/{index}");
        assert_eq!(redirect(&made), (201, Some(&*place)));
        assert_eq!(made.header("content-type"), Some(JSON));
    }
    let changed = visit
        .send(
            Method::PUT,
            "/notes/1",
            JSON,
            r#"{"title":"b","done":true}"#,
        )
        .await;
    assert_eq!(changed.status, 204);
    assert_eq!(visit.text("/notes/1").await, r#"{"title":"b","done":true}"#);
    assert_eq!(
        visit.text("/notes?page=1&per_page=2").await,
        r#"[{"title":"c","done":false}]"#
    );
    assert_eq!(visit.get("/notes?page=x").await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_a_json_request_has_its_status() {
    let visit = Visit::of("example-json");
    let post = async |content_type: &str, body: &str| {
        let answer = visit.send(Method::POST, "/notes", content_type, body).await;
        (answer.status, answer.text)
    };
    let status_and_line = |status, text: &str| (status, format!("{text}\n"));
    assert_eq!(
        post(JSON, "{").await,
        status_and_line(400, "JSON: EOF while parsing an object at line 1 column 1")
    );
    assert_eq!(
        post(JSON, "{}").await,
        status_and_line(422, "JSON: missing field `title` at line 1 column 2")
    );
    assert_eq!(
        post("text/plain", "{}").await,
        status_and_line(415, "the content-type of the body is not JSON")
    );
    assert_eq!(
        post(JSON, r#"{"title":""}"#).await,
        status_and_line(422, "a note needs a title")
    );
    assert_eq!(visit.get("/notes/7").await.status, 404);
    assert_eq!(visit.get("/notes/seven").await.status, 404);
    let put = visit
        .send(Method::PUT, "/notes/7", JSON, r#"{"title":"a"}"#)
        .await;
    assert_eq!(put.status, 404);
    let fallback = visit.get("/other").await;
    assert_eq!(
        (fallback.status, &*fallback.text),
        (404, "\"no such resource\"")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_without_a_route_is_405_and_head_is_answered_as_get() {
    let visit = Visit::of("example-json");
    let refused = visit.send(Method::DELETE, "/notes", JSON, "").await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, POST, HEAD"))
    );
    let head = visit.send(Method::HEAD, "/notes", JSON, "").await;
    assert_eq!((head.status, &*head.text), (200, ""));
    assert_eq!(head.header("content-length"), Some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_are_plain_signed_and_json() {
    let visit = Visit::of("example-cookies");
    assert_eq!(visit.text("/").await, "light, free, 1\n");
    for choice in ["/theme/dark", "/plan/gold", "/columns/3"] {
        assert_eq!(redirect(&visit.post(choice).await), (303, Some("/")));
    }
    assert_eq!(visit.text("/").await, "dark, gold, 3\n");
    let forged = Browser::with_cookie(&visit.host.url("/"), "plan=gold");
    let answer = forged.get(&visit.host.url("/")).await;
    assert_eq!(answer.text, "light, free, 1\n");

    visit.post("/forget").await;
    assert_eq!(visit.browser.cookies(&visit.host.url("/")), None);
    assert_eq!(visit.text("/").await, "light, free, 1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_is_sent_with_the_attributes_that_were_asked_for() {
    let visit = Visit::of("example-cookies");
    let chosen = visit.post("/plan/gold").await;
    let [cookie] = chosen.set_cookies()[..] else {
        panic!("one cookie: {:?}", chosen.headers);
    };
    assert!(cookie.starts_with("plan=s%3Agold."), "{cookie}");
    assert!(cookie.contains("; Max-Age=31536000; Path=/; "), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_cannot_set_the_session_cookie() {
    let visit = Visit::of("example-cookies");
    let evil = visit.post("/evil").await;
    assert_eq!((evil.status, &*evil.text), (500, "internal server error\n"));
    assert_eq!(evil.set_cookies(), [""; 0]);
    visit.host.wait_for_log("cookie: not granted: ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_server_is_asked_and_another_one_is_not() {
    let rates = Visit::with(&Config::over("memory:").guest("/", "example-json"));
    let url = |path: &str| {
        format!(
            "environment = {{ RATES_URL = \"{}\" }}",
            rates.host.url(path)
        )
    };
    let granted = format!(
        "session = \"write\"\noutbound_hosts = [\"{}\"]\n{}",
        rates.host.address(),
        url("/notes")
    );
    let visit = Visit::with(&Config::over("memory:").guest_with("/", "example-outbound", &granted));
    // The other server does not have this note. An answer that is not a success becomes a 502.
    let answer = visit.get("/rates/7").await;
    assert_eq!((answer.status, &*answer.text), (502, "bad gateway\n"));
    visit.host.wait_for_log("call out: status 404").await;
    // The other server refuses a rate in place of a note, because a note has a title.
    let sent = visit
        .send(Method::POST, "/rates/7", JSON, r#"{"krw":1391.5}"#)
        .await;
    assert_eq!(
        (sent.status, &*sent.text),
        (502, "the rate was not taken\n")
    );

    let denied = format!("session = \"write\"\n{}", url("/notes"));
    let visit = Visit::with(&Config::over("memory:").guest_with("/", "example-outbound", &denied));
    let answer = visit.get("/rates/7").await;
    assert_eq!(
        (answer.status, &*answer.text),
        (500, "internal server error\n")
    );
    let address = rates.host.address();
    let line = format!("call out: not granted: `{address}`");
    visit.host.wait_for_log(&line).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_json_of_another_server_is_a_value() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0);
        }
        let answer =
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{ \"krw\": 1391.50, \"eur\": 0.9 }";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    });
    let granted = format!(
        "session = \"write\"\noutbound_hosts = [\"{address}\"]\nenvironment = {{ RATES_URL = \"http://{address}/of\" }}"
    );
    let visit = Visit::with(&Config::over("memory:").guest_with("/", "example-outbound", &granted));
    assert_eq!(visit.text("/rates/usd").await, r#"{"krw":1391.5}"#);
    let head = asked.await.unwrap();
    assert!(head.starts_with("get /of/usd http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\naccept: application/json\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_writes_the_session_before_its_head() {
    let visit = Visit::of("example-streaming");
    for number in 1..=2 {
        let events = visit.get("/events").await;
        assert_eq!(events.header("content-type"), Some("text/event-stream"));
        let expected: String = (1..=3)
            .map(|event| format!("data: stream {number}, event {event}\n\n"))
            .collect();
        assert_eq!(events.text, expected);
    }
    assert_eq!(visit.text("/").await, "see /events\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asynchronous_handlers_have_the_same_router() {
    let visit = Visit::of("example-service");
    assert_eq!(visit.text("/").await, "1번 접속");
    assert_eq!(visit.text("/later/20").await, "20 ms later\n");
    assert_eq!(visit.text("/").await, "2번 접속");
    assert_eq!(visit.get("/later/soon").await.status, 404);
    assert_eq!(visit.post("/").await.header("allow"), Some("GET, HEAD"));
}
