//! One session from the browser's point of view: its cookie and its expected count. Does not know sockets.
//!
//! The end-to-end tests have a visitor of their own (`tests/src/browser.rs`). Its HTTP client does more work for each request than some
//! of the measured servers do, and the driver runs on the same processors.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};

use crate::counts::Counts;
use crate::response::Response;

/// The kind of a contender's responses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answers {
    /// A number that starts at 1 and increases by one with each request of a session, followed by any text.
    Counter,
    /// `hello`, for every client.
    Hello,
}

/// The handling of a wrong response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Faults {
    /// A wrong response is an error.
    End,
    /// Wrong responses are counted, and the load continues.
    Count,
}

/// The numbers of wrong responses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultCount {
    /// Responses with another status than 200.
    pub n_refused: u64,
    /// Duplicate numbers, and missing numbers below the largest one that refused requests do not explain.
    pub n_lost: u64,
    /// The first wrong response.
    pub first: Option<String>,
}

/// One session.
#[derive(Debug)]
pub struct Visitor {
    address: SocketAddr,
    path: String,
    answers: Answers,
    faults: Faults,
    fault_count: FaultCount,
    cookie: Vec<u8>,
    n_sent: u64,
    n_answered: u64,
    counts: Counts,
    /// The complete next request.
    request: Vec<u8>,
}

impl Visitor {
    /// Creates a visitor without a cookie, which requests this path from this address.
    pub fn new(address: SocketAddr, path: &str, answers: Answers, faults: Faults) -> Self {
        let mut visitor = Self {
            address,
            path: path.to_owned(),
            answers,
            faults,
            fault_count: FaultCount::default(),
            cookie: Vec::new(),
            n_sent: 0,
            n_answered: 0,
            counts: Counts::default(),
            request: Vec::new(),
        };
        visitor.write_request();
        visitor
    }

    /// Returns the bytes of the next request, which must be sent now.
    pub fn ask(&mut self) -> &[u8] {
        self.n_sent += 1;
        &self.request
    }

    /// Returns the number of requests sent.
    pub fn n_sent(&self) -> u64 {
        self.n_sent
    }

    /// Returns `name=value`, or an empty value before the first response.
    pub fn cookie(&self) -> &[u8] {
        &self.cookie
    }

    /// Processes the response to a request.
    ///
    /// # Errors
    /// If the status is not 200 or the response is wrong, unless faults are counted.
    pub fn take(&mut self, response: &Response) -> anyhow::Result<()> {
        self.n_answered += 1;
        let is_refused = response.status != 200;
        match (self.check(response), self.faults) {
            (Ok(()), _) => Ok(()),
            (Err(error), Faults::End) => Err(error),
            (Err(error), Faults::Count) => {
                let count = match is_refused {
                    true => &mut self.fault_count.n_refused,
                    false => &mut self.fault_count.n_lost,
                };
                *count += 1;
                (self.fault_count.first).get_or_insert_with(|| format!("{error:#}"));
                Ok(())
            }
        }
    }

    fn check(&mut self, response: &Response) -> anyhow::Result<()> {
        let body = || String::from_utf8_lossy(&response.body).into_owned();
        ensure!(
            response.status == 200,
            "status {}: {}",
            response.status,
            body()
        );
        match self.answers {
            Answers::Counter => {
                let taken = leading_number(&response.body)
                    .context("no number")
                    .and_then(|number| self.counts.take(number, self.n_sent));
                taken.with_context(|| {
                    let n_answered = self.n_answered;
                    format!(
                        "wrong count: answer {n_answered} of a session was `{}`",
                        body()
                    )
                })?;
            }
            Answers::Hello => ensure!(&*response.body == b"hello\n", "no hello: `{}`", body()),
        }
        match response.cookie {
            // Some servers send the same cookie with each response.
            Some(cookie) if cookie != self.cookie => {
                self.cookie = cookie.to_vec();
                self.write_request();
            }
            Some(_) => {}
            None if self.answers == Answers::Counter && self.cookie.is_empty() => {
                bail!("the first answer brought no cookie")
            }
            None => {}
        }
        Ok(())
    }

    /// Whether every request was answered, and no number of the responses is missing. If faults are counted,
    /// [`Visitor::fault_count`] reports the missing numbers instead.
    pub fn is_whole(&self) -> bool {
        let is_counted = match (self.answers, self.faults) {
            (Answers::Counter, Faults::End) => {
                self.counts.n_missing() == 0 && self.counts.largest() == self.n_answered
            }
            (Answers::Hello, _) | (_, Faults::Count) => true,
        };
        is_counted && self.n_answered == self.n_sent
    }

    /// Returns the wrong responses so far. There must be no running request.
    pub fn fault_count(&self) -> FaultCount {
        let mut count = self.fault_count.clone();
        // A refused request may still have incremented the counter.
        count.n_lost += self.counts.n_missing().saturating_sub(count.n_refused);
        count
    }

    fn write_request(&mut self) {
        let Self { path, address, .. } = self;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n");
        self.request = request.into_bytes();
        if !self.cookie.is_empty() {
            self.request.extend_from_slice(b"cookie: ");
            self.request.extend_from_slice(&self.cookie);
            self.request.extend_from_slice(b"\r\n");
        }
        self.request.extend_from_slice(b"\r\n");
    }
}

fn leading_number(body: &[u8]) -> Option<u64> {
    let digits = body.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&body[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(answers: Answers) -> Visitor {
        let mut visitor = Visitor::new(
            SocketAddr::from(([127, 0, 0, 1], 80)),
            "/session",
            answers,
            Faults::End,
        );
        visitor.ask();
        visitor
    }

    fn answer<'a>(status: u16, cookie: Option<&'a str>, body: &'a str) -> Response<'a> {
        Response {
            status,
            cookie: cookie.map(str::as_bytes),
            body: body.as_bytes().into(),
            bytes: 0,
        }
    }

    #[test]
    fn a_session_counts_up_and_keeps_its_cookie() {
        let mut visitor = visitor(Answers::Counter);
        visitor.take(&answer(200, Some("a=1"), "1번")).unwrap();
        visitor.ask();
        visitor.take(&answer(200, None, "2번")).unwrap();
        assert!(visitor.is_whole());
        let request = String::from_utf8(visitor.request).unwrap();
        assert_eq!(
            request,
            "GET /session HTTP/1.1\r\nhost: 127.0.0.1:80\r\ncookie: a=1\r\n\r\n"
        );
    }

    #[test]
    fn a_lost_update_is_a_fault() {
        let mut visitor = visitor(Answers::Counter);
        visitor.take(&answer(200, Some("a=1"), "1번")).unwrap();
        visitor.ask();
        let error = visitor.take(&answer(200, None, "1번")).unwrap_err();
        assert!(error.to_string().starts_with("wrong count: answer 2"));
    }

    #[test]
    fn a_visitor_that_awaits_a_response_is_not_whole() {
        let mut visitor = visitor(Answers::Counter);
        assert!(!visitor.is_whole());
        visitor.take(&answer(200, Some("a=1"), "1번")).unwrap();
        assert!(visitor.is_whole());
    }

    #[test]
    fn a_session_without_a_cookie_is_a_fault() {
        let error = visitor(Answers::Counter).take(&answer(200, None, "1번"));
        assert!(error.is_err());
    }

    #[test]
    fn counted_faults_do_not_stop_a_visitor() {
        let mut visitor = Visitor {
            faults: Faults::Count,
            ..visitor(Answers::Counter)
        };
        visitor.take(&answer(200, Some("a=1"), "1번")).unwrap();
        for (status, body) in [(503, "later"), (200, "3번"), (200, "3번"), (200, "5번")] {
            visitor.ask();
            visitor.take(&answer(status, None, body)).unwrap();
        }
        let count = visitor.fault_count();
        // The missing 2 may belong to the refused request. One of the two responses with 3 is a lost update, and 4 is missing.
        assert_eq!((count.n_refused, count.n_lost), (1, 2));
        assert_eq!(count.first.as_deref(), Some("status 503: later"));
    }

    #[test]
    fn a_status_other_than_200_is_a_fault() {
        let error = visitor(Answers::Hello).take(&answer(503, None, "hello\n"));
        assert!(error.is_err());
    }
}
