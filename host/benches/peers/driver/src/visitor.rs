//! One session as its browser sees it: the cookie, and how far the counter must be. Knows no sockets.

use std::net::SocketAddr;

use anyhow::{bail, ensure};

use crate::response::Response;

/// What the contender answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answers {
    /// A number that starts at 1 and grows by one with each visit of a session, and whatever text follows it.
    Counter,
    /// `hello`, to anybody.
    Hello,
}

/// One session.
#[derive(Debug)]
pub struct Visitor {
    address: SocketAddr,
    answers: Answers,
    cookie: Vec<u8>,
    /// How many answers this session has had.
    visits: u64,
    /// The next request, whole.
    pub request: Vec<u8>,
}

impl Visitor {
    /// One who was never here.
    pub fn new(address: SocketAddr, answers: Answers) -> Self {
        let mut visitor = Self {
            address,
            answers,
            cookie: Vec::new(),
            visits: 0,
            request: Vec::new(),
        };
        visitor.write_request();
        visitor
    }

    /// Takes the answer to `request`.
    ///
    /// # Errors
    /// Anything but the answer that is due: another status than 200, another number than one more than the last.
    pub fn take(&mut self, response: &Response) -> anyhow::Result<()> {
        let body = || String::from_utf8_lossy(&response.body).into_owned();
        ensure!(
            response.status == 200,
            "status {}: {}",
            response.status,
            body()
        );
        self.visits += 1;
        match self.answers {
            Answers::Counter => {
                let count = leading_number(&response.body);
                ensure!(
                    count == Some(self.visits),
                    "wrong count: visit {} of a session was answered with `{}`",
                    self.visits,
                    body()
                );
            }
            Answers::Hello => ensure!(&*response.body == b"hello\n", "no hello: `{}`", body()),
        }
        match response.cookie {
            // Some send the same cookie with each answer.
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

    fn write_request(&mut self) {
        let request = format!("GET /session HTTP/1.1\r\nhost: {}\r\n", self.address);
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
        Visitor::new(SocketAddr::from(([127, 0, 0, 1], 80)), answers)
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
        visitor.take(&answer(200, None, "2번")).unwrap();
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
        let error = visitor.take(&answer(200, None, "1번")).unwrap_err();
        assert!(error.to_string().starts_with("wrong count: visit 2"));
    }

    #[test]
    fn a_session_without_a_cookie_is_a_fault() {
        let error = visitor(Answers::Counter).take(&answer(200, None, "1번"));
        assert!(error.is_err());
    }

    #[test]
    fn another_status_than_200_is_a_fault() {
        let error = visitor(Answers::Hello).take(&answer(503, None, "hello\n"));
        assert!(error.is_err());
    }
}
