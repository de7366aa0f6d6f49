//! One browser: a cookie jar and requests to the host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use ureq::http;

use crate::answer::Answer;
use crate::control::Control;
use crate::jar::Jar;

/// The limit for the redirects that [`Request::follow`] follows, the same as in browsers.
const REDIRECTS_MAX: usize = 20;

/// A browser with a separate cookie jar. It follows redirects only on request.
#[derive(Debug)]
pub struct Visitor {
    host: Arc<Control>,
    jar: Mutex<Jar>,
}

/// A request of a visitor that is not yet sent.
#[derive(Debug)]
#[must_use = "it is sent by `send`"]
pub struct Request<'v> {
    visitor: &'v Visitor,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    follows: bool,
}

impl Visitor {
    pub(crate) fn new(host: Arc<Control>) -> Self {
        Self {
            host,
            jar: Mutex::default(),
        }
    }

    /// GETs a path, with its query if it has one.
    ///
    /// # Panics
    /// If there is no complete answer.
    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target).send()
    }

    /// POSTs a form's fields.
    ///
    /// # Panics
    /// If there is no complete answer.
    pub fn post_form(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.request("POST", target).form(fields).send()
    }

    /// POSTs a value as JSON.
    ///
    /// # Panics
    /// If the value cannot be converted to JSON, or there is no complete answer.
    pub fn post_json(&self, target: &str, value: &(impl Serialize + ?Sized)) -> Answer {
        self.request("POST", target).json(value).send()
    }

    /// Returns a request with any method.
    pub fn request(&self, method: &str, target: &str) -> Request<'_> {
        Request {
            visitor: self,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            follows: false,
        }
    }

    /// Returns the value of a cookie in the jar, as it is sent.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.expire();
        self.jar().get(name).map(str::to_owned)
    }

    /// Puts `name=value` into the jar.
    pub fn take_cookie(&self, pair: &str) {
        self.jar().take(pair);
    }

    fn jar(&self) -> MutexGuard<'_, Jar> {
        // A test that panicked elsewhere leaves the jar intact.
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the cookies that have expired by the host's clock.
    fn expire(&self) {
        if self.jar().can_expire() {
            let now_ms = self.host.now_ms();
            self.jar().expire(now_ms);
        }
    }

    /// Sends one request and stores the cookies of its answer.
    fn exchange(&self, request: &Request<'_>) -> Answer {
        let Request { method, target, .. } = request;
        assert!(
            target.starts_with('/'),
            "`{target}` does not begin with `/`"
        );
        let path = target.split(['?', '#']).next().unwrap_or_default();
        self.expire();
        let url = format!("{}{target}", self.host.url);
        let mut sent = http::Request::builder().method(&**method).uri(&url);
        for (name, value) in &request.headers {
            sent = sent.header(name, value);
        }
        if let Some(cookies) = self.jar().header(path) {
            sent = sent.header("cookie", cookies);
        }
        let sent = sent
            .body(request.body.clone())
            .unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        let answer = self.host.agent.run(sent);
        let mut answer = answer.unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        let body = answer.body_mut().read_to_vec();
        let answer = Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: body.unwrap_or_else(|error| panic!("{method} {target}: {error}")),
        };
        self.keep(&answer, path);
        answer
    }

    fn keep(&self, answer: &Answer, path: &str) {
        let cookies = answer.set_cookies();
        if cookies.is_empty() {
            return;
        }
        let now_ms = self.host.now_ms();
        let mut jar = self.jar();
        for cookie in cookies {
            jar.set(cookie, path, now_ms);
        }
    }
}

impl Request<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body. Set its type with a `content-type` header.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to the fields of a form.
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let encoded = form(fields);
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(encoded)
    }

    /// Sets the body to a value as JSON.
    ///
    /// # Panics
    /// If the value cannot be converted to JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        let json = serde_json::to_vec(value).expect("a value that is JSON");
        self.header("content-type", "application/json").body(json)
    }

    /// Makes the request follow redirects within the host: with GET, except after 307 and 308.
    pub fn follow(mut self) -> Self {
        self.follows = true;
        self
    }

    /// Sends the request.
    ///
    /// # Panics
    /// If there is no complete answer, or there are too many redirects.
    pub fn send(mut self) -> Answer {
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.visitor.exchange(&self);
            let location = answer.header("location").filter(|_| self.follows);
            // Some guests send complete URLs.
            let location =
                location.map(|url| url.strip_prefix(&self.visitor.host.url).unwrap_or(url));
            match (answer.status, location) {
                (301..=303, Some(location)) => {
                    self.target = location.to_owned();
                    self.method = "GET".to_owned();
                    self.body.clear();
                    self.headers
                        .retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
                }
                (307 | 308, Some(location)) => self.target = location.to_owned(),
                _ => return answer,
            }
        }
        panic!("`{}` is redirected without an end", self.target);
    }
}

/// Encodes fields as a form does.
fn form(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter();
    let pairs: Vec<_> = fields
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_as_browsers_do() {
        assert_eq!(
            form(&[("a b", "1번&x=y"), ("c", "")]),
            "a+b=1%EB%B2%88%26x%3Dy&c="
        );
    }
}
