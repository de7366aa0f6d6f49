//! Counts the bytes of a response body, and checks them against the length that its head promises and the limit of its guest.

use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, response};

use crate::run::error::GuestFailure;
use cloakroom_base::limits::RESPONSE_HEAD_BYTES_MAX;
use cloakroom_base::quota::fields_bytes;

/// The count of one response body.
#[derive(Debug)]
pub(crate) struct BodyMeter {
    bytes: u64,
    bytes_max: Option<u64>,
    declared: Option<u64>,
    is_sent: bool,
}

impl BodyMeter {
    /// Checks the head of a response.
    ///
    /// # Errors
    /// [`GuestFailure::BadResponse`] if the head cannot be sent, [`GuestFailure::ResponseHeadTooLarge`] if it is too large,
    /// [`GuestFailure::ResponseTooLarge`] if it promises too large a body.
    pub(crate) fn new(
        method: &Method,
        head: &response::Parts,
        bytes_max: Option<u64>,
    ) -> Result<Self, GuestFailure> {
        if head.status.is_informational() {
            return Err(GuestFailure::BadResponse {
                reason: "its status is informational (1xx)",
            });
        }
        // RFC 9110, section 15: no client can know the meaning of such a status.
        if head.status.as_u16() > 599 {
            return Err(GuestFailure::BadResponse {
                reason: "its status is above 599",
            });
        }
        let (bytes, head_max) = (fields_bytes(&head.headers), RESPONSE_HEAD_BYTES_MAX);
        if bytes > head_max {
            return Err(GuestFailure::ResponseHeadTooLarge {
                bytes,
                bytes_max: head_max,
            });
        }
        let bodiless = [
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::NOT_MODIFIED,
        ];
        let is_sent = method != Method::HEAD && !bodiless.contains(&head.status);
        let declared = declared(head)?.filter(|_| is_sent);
        match (declared, bytes_max) {
            (Some(declared), Some(bytes_max)) if declared > bytes_max => {
                Err(GuestFailure::ResponseTooLarge { bytes_max })
            }
            _ => Ok(Self {
                bytes: 0,
                bytes_max,
                declared,
                is_sent,
            }),
        }
    }

    /// Returns whether this response has a body on the wire. Responses to `HEAD`, and with status 204, 205 or 304, have none.
    pub(crate) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Returns the bytes counted so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts a piece of the body.
    ///
    /// # Errors
    /// [`GuestFailure::ResponseTooLarge`], [`GuestFailure::BadResponse`].
    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), GuestFailure> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(bytes_max) = self.bytes_max.filter(|max| self.bytes > *max) {
            return Err(GuestFailure::ResponseTooLarge { bytes_max });
        }
        if self.declared.is_some_and(|declared| self.bytes > declared) {
            return Err(GuestFailure::BadResponse {
                reason: "its body is longer than its content-length says",
            });
        }
        Ok(())
    }

    /// Checks the length of the body at its end.
    ///
    /// # Errors
    /// [`GuestFailure::BadResponse`] if the body is shorter than promised.
    pub(crate) fn end(&self) -> Result<(), GuestFailure> {
        match self.declared {
            Some(declared) if self.bytes < declared => Err(GuestFailure::BadResponse {
                reason: "its body is shorter than its content-length says",
            }),
            _ => Ok(()),
        }
    }
}

fn declared(head: &response::Parts) -> Result<Option<u64>, GuestFailure> {
    let bad = || GuestFailure::BadResponse {
        reason: "its content-length is not one number",
    };
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(None);
    };
    let digits = length
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (
        digits.and_then(|digits| digits.parse().ok()),
        lengths.next(),
    ) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(
        method: Method,
        status: u16,
        length: Option<&str>,
        bytes_max: Option<u64>,
    ) -> Result<BodyMeter, GuestFailure> {
        let mut response = http::Response::builder().status(status);
        if let Some(length) = length {
            response = response.header(CONTENT_LENGTH, length);
        }
        BodyMeter::new(
            &method,
            &response.body(()).unwrap().into_parts().0,
            bytes_max,
        )
    }

    #[test]
    fn a_response_body_must_match_its_content_length() {
        let mut meter = meter(Method::GET, 200, Some("3"), None).unwrap();
        meter.count(2).unwrap();
        assert!(meter.end().is_err());
        meter.count(1).unwrap();
        meter.end().unwrap();
        assert!(meter.count(1).is_err());
    }

    #[test]
    fn bodiless_responses_may_have_a_content_length() {
        for (method, status) in [
            (Method::HEAD, 200),
            (Method::GET, 304),
            (Method::GET, 204),
            (Method::GET, 205),
        ] {
            let meter = meter(method, status, Some("3"), Some(1)).unwrap();
            assert!(!meter.is_sent());
            meter.end().unwrap();
        }
    }

    #[test]
    fn the_body_limit_applies_to_the_content_length_and_to_sent_bytes() {
        assert!(matches!(
            meter(Method::GET, 200, Some("4"), Some(3)),
            Err(GuestFailure::ResponseTooLarge { bytes_max: 3 })
        ));
        let mut meter = meter(Method::GET, 200, None, Some(3)).unwrap();
        meter.count(3).unwrap();
        assert!(meter.count(1).is_err());
    }

    #[test]
    fn a_head_has_a_limit_whether_or_not_it_has_a_body() {
        let meter = |method: Method, fields: usize, bytes: usize| {
            let mut response = http::Response::new(());
            for _ in 0..fields {
                let value = "v".repeat(bytes).parse().unwrap();
                response.headers_mut().append("x", value);
            }
            BodyMeter::new(&method, &response.into_parts().0, None)
        };
        let bytes_max = RESPONSE_HEAD_BYTES_MAX;
        let one = usize::try_from(bytes_max).unwrap() - 33;
        for method in [Method::GET, Method::HEAD] {
            assert!(meter(method.clone(), 1, one).is_ok());
            for (fields, bytes) in [(1, one + 1), (1000, 0)] {
                let failure = meter(method.clone(), fields, bytes).unwrap_err();
                let bytes = (fields * (bytes + 33)) as u64;
                let expected = GuestFailure::ResponseHeadTooLarge { bytes, bytes_max };
                assert_eq!(failure, expected);
            }
        }
    }

    #[test]
    fn a_head_that_cannot_be_sent_is_refused() {
        for status in [100, 101, 103, 199, 600, 999] {
            assert!(meter(Method::GET, status, None, None).is_err(), "{status}");
        }
        assert!(meter(Method::GET, 599, None, None).is_ok());
        assert!(meter(Method::GET, 200, Some("+5"), None).is_err());
        assert!(meter(Method::GET, 200, Some(""), None).is_err());
    }
}
