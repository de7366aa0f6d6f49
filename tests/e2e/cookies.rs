//! The guests' own cookies compared with the real cookie-parser and Express's `res.cookie`. Both parse the same header to the same values
//! and write the same header, byte for byte.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::express::Express;
use cloakroom_tests::host::{Config, Host, SECRET};
use reqwest::header::{COOKIE, HeaderValue, SET_COOKIE};
use serde_json::{Value, json};

mod values;

use crate::run_script;
use values::{HEADERS, OPTIONS, SIGNED_TEXTS, TEXTS, VALUES, WRITTEN_JSON};

const NEW: &str = "the newer secret of these cookies, of 32 bytes";
const OLD: &str = "the older secret of these cookies, of 32 bytes";
const WORLDS: [&str; 2] = ["fixture-session", "fixture-session-service"];

/// Returns a host that signs guests' cookies with the secrets of the peer.
fn host(component: &str) -> Host {
    Config::over("memory:")
        .top("[cookies]\nsecrets = [\"env:NEW\", \"env:OLD\"]")
        .env("NEW", NEW)
        .env("OLD", OLD)
        .guest_with("/s", component, "")
        .start()
}

struct Pair {
    client: reqwest::Client,
    host: Host,
    express: Express,
}

impl Pair {
    fn of(component: &str) -> Self {
        Self {
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            host: host(component),
            express: Express::cookies(&[NEW, OLD]),
        }
    }

    fn with_cookies(
        &self,
        mut request: reqwest::RequestBuilder,
        headers: &[&[u8]],
    ) -> reqwest::RequestBuilder {
        for header in headers {
            request = request.header(COOKIE, HeaderValue::from_bytes(header).unwrap());
        }
        request
    }

    /// Returns the cookies that a guest reads from these `Cookie` headers, in JavaScript notation and sorted by name.
    async fn read_by_guest(&self, headers: &[&[u8]]) -> Vec<Value> {
        let request = self.client.post(self.host.url("/s")).body("cookies");
        let answer = self.with_cookies(request, headers).send().await.unwrap();
        let read = answer.text().await.unwrap();
        let request = self.client.post(self.express.url("/said"));
        let request = request
            .header("content-type", "application/json")
            .body(read);
        sorted(&request.send().await.unwrap().text().await.unwrap())
    }

    /// Returns the cookies that cookie-parser reads from these headers.
    async fn read_by_express(&self, headers: &[&[u8]]) -> Vec<Value> {
        let request = self.client.get(self.express.url("/read"));
        let answer = self.with_cookies(request, headers).send().await.unwrap();
        sorted(&answer.text().await.unwrap())
    }

    async fn assert_read_alike(&self, headers: &[&[u8]]) -> Vec<Value> {
        let (guest, express) = (
            self.read_by_guest(headers).await,
            self.read_by_express(headers).await,
        );
        let shown = String::from_utf8_lossy(&headers.join(&b"\r\n"[..])).into_owned();
        assert_eq!(guest, express, "{shown}");
        guest
    }

    /// Returns the `Set-Cookie` header that a guest creates from this cookie, or the error.
    async fn written_by_guest(&self, cookie: &Value) -> Result<String, String> {
        let line = format!("set-cookie {cookie}");
        let answer = run_script(&Browser::new(), &self.host, &[&line]).await;
        match answer.text.trim_end() {
            "ok" => Ok(answer.set_cookies()[0].to_owned()),
            error => Err(error.to_owned()),
        }
    }

    /// Returns the header that `res.cookie` creates.
    async fn written_by_express(&self, cookie: &Value) -> Result<String, String> {
        let request = self.client.post(self.express.url("/write"));
        let request = request.header("content-type", "application/json");
        let answer = request.body(cookie.to_string()).send().await.unwrap();
        match answer.headers().get(SET_COOKIE) {
            Some(header) => Ok(header.to_str().unwrap().to_owned()),
            None => Err(answer.text().await.unwrap()),
        }
    }

    /// Returns the two headers, which must be equal. Tries several times, because `Expires` contains a second that may just have passed.
    async fn assert_written_alike(&self, cookie: &Value) -> String {
        let (mut guest, mut express) = (String::new(), String::new());
        for _ in 0..5 {
            guest = self.written_by_guest(cookie).await.unwrap();
            express = self.written_by_express(cookie).await.unwrap();
            if guest == express {
                break;
            }
        }
        assert_eq!(guest, express, "{cookie}");
        guest
    }

    async fn sign(&self, text: &str, secret: &str) -> String {
        let request = self.client.post(self.express.url("/sign"));
        let request = request.header("content-type", "application/json");
        let body = json!({ "text": text, "secret": secret }).to_string();
        request
            .body(body)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }
}

fn sorted(list: &str) -> Vec<Value> {
    let mut list: Vec<Value> = serde_json::from_str(list).unwrap_or_else(|_| panic!("{list}"));
    list.sort_by_key(|cookie| cookie["name"].as_str().unwrap().to_owned());
    list
}

fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_reads_every_value_as_cookie_parser_does() {
    assert!(VALUES.len() + HEADERS.len() >= 60);
    for component in WORLDS {
        let pair = Pair::of(component);
        for value in VALUES {
            pair.assert_read_alike(&[&[b"c=", *value].concat()]).await;
        }
        let long = "x".repeat(8_000);
        pair.assert_read_alike(&[format!("c={long}").as_bytes()])
            .await;
        for headers in HEADERS {
            pair.assert_read_alike(headers).await;
        }
        // All values in one header, each under a different name.
        let numbered = VALUES.iter().enumerate();
        let pairs: Vec<_> = numbered
            .map(|(n, value)| [format!("c{n}=").as_bytes(), value].concat())
            .collect();
        let all = pair.assert_read_alike(&[&pairs.join(&b"; "[..])]).await;
        assert_eq!(all.len(), VALUES.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_verifies_signed_values_as_cookie_parser_does() {
    for component in WORLDS {
        let pair = Pair::of(component);
        let is_believed = async |value: &str| {
            let read = pair
                .assert_read_alike(&[format!("c={value}").as_bytes()])
                .await;
            assert_eq!(read[0]["signed"], true, "{value}");
            read[0]["said"] != "false"
        };
        for text in SIGNED_TEXTS {
            for (secret, expected) in [(NEW, true), (OLD, true), (SECRET, false)] {
                let signed = pair.sign(text, secret).await;
                assert_eq!(is_believed(&encoded(&signed)).await, expected, "{text}");
            }
        }
        let signed = pair.sign("val", OLD).await;
        let (text, signature) = signed.rsplit_once('.').unwrap();
        let plain = [
            signed.clone(),
            format!("\"{signed}\""),
            format!("\"{}\"", encoded(&signed)),
        ];
        for value in plain {
            assert!(is_believed(&value).await, "{value}");
        }
        for value in [
            text.to_owned(),
            format!("{text}."),
            format!("{text}x.{signature}"),
            format!("s:.{signature}"),
            format!("{signed}="),
            format!("{signed}x"),
            signed[..signed.len() - 1].to_owned(),
            format!("{text}.{}", signature.to_lowercase()),
            format!(
                "{text}.{}",
                signature.replace('/', "_").replace('+', "-").to_uppercase()
            ),
            format!("s:{signed}"),
            "s:".to_owned(),
            "s:.".to_owned(),
        ] {
            assert!(!is_believed(&encoded(&value)).await, "{value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_writes_every_value_as_express_does_and_each_reads_it_back() {
    for component in WORLDS {
        let pair = Pair::of(component);
        let long = "é".repeat(600);
        let texts = TEXTS
            .iter()
            .copied()
            .chain([long.as_str()])
            .map(|text| json!({ "text": text }));
        let jsons = WRITTEN_JSON.iter().map(|text| json!({ "json": text }));
        for mut cookie in texts.chain(jsons) {
            cookie["name"] = "c".into();
            for signed in [false, true] {
                cookie["signed"] = signed.into();
                let header = pair.assert_written_alike(&cookie).await;
                let (written, _) = header.split_once("; Path=/").unwrap();
                pair.assert_read_alike(&[written.as_bytes()]).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_are_written_as_express_writes_them() {
    let pair = Pair::of(WORLDS[0]);
    for options in OPTIONS {
        let mut cookie: Value = serde_json::from_str(options).unwrap();
        cookie["name"] = "c".into();
        cookie["text"] = "v".into();
        pair.assert_written_alike(&cookie).await;
    }
    // All combinations of the flags.
    for bits in 0..16 {
        let mut cookie = json!({ "name": "c", "text": "v", "maxAge": 60_000 });
        for (bit, flag) in ["httpOnly", "secure", "partitioned", "signed"]
            .iter()
            .enumerate()
        {
            cookie[*flag] = (bits >> bit & 1 == 1).into();
        }
        for (priority, same_site) in [("low", "strict"), ("medium", "lax"), ("high", "none")] {
            cookie["priority"] = priority.into();
            cookie["sameSite"] = same_site.into();
            pair.assert_written_alike(&cookie).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_that_express_refuses_is_an_error_in_the_guest() {
    let pair = Pair::of(WORLDS[0]);
    for cookie in [
        json!({ "name": "", "text": "" }),
        json!({ "name": "a b", "text": "" }),
        json!({ "name": "é", "text": "" }),
        json!({ "name": "c", "text": "", "domain": "a_b.test" }),
        json!({ "name": "c", "text": "", "domain": "http://a.test" }),
        json!({ "name": "c", "text": "", "path": "/a;b" }),
        json!({ "name": "c", "text": "", "path": "/é" }),
        json!({ "name": "c", "text": "", "expires": 8_640_000_000_000_001_i64 }),
        json!({ "name": "c", "text": "", "maxAge": 8_640_000_000_000_000_i64 }),
    ] {
        let thrown = pair.written_by_express(&cookie).await.unwrap_err();
        assert!(thrown.ends_with("is invalid"), "{thrown}");
        let error = pair.written_by_guest(&cookie).await.unwrap_err();
        assert!(error.starts_with("error invalid"), "{cookie}: {error}");
    }
}

/// The value of a session cookie is the session's id with a valid signature. It must not be accepted as any other cookie.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sessions_id_is_neither_signed_nor_believed_under_the_sessions_secrets() {
    for component in WORLDS {
        let host = Config::over("memory:").guest("/s", component).start();
        let browser = Browser::new();
        run_script(&browser, &host, &["set n 1"]).await;
        let pair = browser.cookies(&host.url("/")).unwrap();
        let (_, value) = pair.split_once('=').unwrap();
        let id = crate::id_of(&browser, &host);

        let visitor = Browser::with_cookie(&host.url("/"), &format!("plan={value}"));
        let read = run_script(&visitor, &host, &["cookies"]).await.text;
        assert_eq!(read.trim_end(), r#"[{"name":"plan","signed":true}]"#);

        let line = json!({ "name": "plan", "text": id, "signed": true });
        let answer = run_script(&browser, &host, &[&format!("set-cookie {line}")]).await;
        assert!(answer.text.starts_with("error denied"), "{}", answer.text);
        assert!(answer.text.contains("[cookies] secrets"), "{}", answer.text);
        assert_eq!(answer.set_cookies(), [""; 0]);

        // A value that is not a session id is signed with the same secrets and accepted.
        let line = json!({ "name": "plan", "text": "gold", "signed": true });
        let visitor = Browser::new();
        run_script(&visitor, &host, &[&format!("set-cookie {line}")]).await;
        let read = run_script(&visitor, &host, &["cookies"]).await.text;
        assert_eq!(
            read.trim_end(),
            r#"[{"name":"plan","signed":true,"text":"gold"}]"#
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_cookie_is_neither_shown_nor_written() {
    for component in WORLDS {
        let host = Config::over("memory:").guest("/s", component).start();
        let browser = Browser::new();
        run_script(&browser, &host, &["set n 1"]).await;
        let line = json!({ "name": "connect.sid", "text": "x" });
        let answer = run_script(
            &browser,
            &host,
            &["cookies", &format!("set-cookie {line}"), "get n"],
        )
        .await;
        let lines: Vec<_> = answer.text.lines().collect();
        assert_eq!([lines[0], lines[2]], ["[]", "1"]);
        assert!(lines[1].starts_with("error denied"), "{}", lines[1]);
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_secrets_are_rotated_by_a_reload() {
    let with = |secrets: &str| {
        Config::over("memory:")
            .top(&format!("[cookies]\nsecrets = {secrets}"))
            .env("NEW", NEW)
            .env("OLD", OLD)
            .guest_with("/s", WORLDS[0], "")
    };
    let host = with("[\"env:OLD\"]").start();
    let browser = Browser::new();
    let line = json!({ "name": "c", "text": "v", "signed": true });
    let sign = format!("set-cookie {line}");
    run_script(&browser, &host, &[&sign]).await;
    let read = async |browser: &Browser| run_script(browser, &host, &["cookies"]).await.text;
    let believed = "[{\"name\":\"c\",\"signed\":true,\"text\":\"v\"}]\n";
    let forged = "[{\"name\":\"c\",\"signed\":true}]\n";

    let reload = async |config: Config, count: usize| {
        host.configure(&config);
        host.signal("HUP");
        let taken_over = "the configuration was read again";
        host.wait_for_log_count(taken_over, count).await;
    };
    reload(with("[\"env:NEW\", \"env:OLD\"]"), 1).await;
    assert_eq!(read(&browser).await, believed, "all of them verify");
    let later = Browser::new();
    run_script(&later, &host, &[&sign]).await;
    reload(with("[\"env:OLD\"]"), 2).await;
    assert_eq!(read(&later).await, forged, "the first one signs");
    reload(with("[\"env:NEW\"]"), 3).await;
    assert_eq!(read(&later).await, believed);
    assert_eq!(read(&browser).await, forged);

    // Without secrets of their own, guests' cookies use the session's secrets.
    let config = Config::over("memory:").guest_with("/s", WORLDS[0], "");
    reload(config, 4).await;
    assert_eq!(read(&later).await, forged);
    run_script(&later, &host, &[&sign]).await;
    assert_eq!(read(&later).await, believed);
}
