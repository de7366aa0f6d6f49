//! The `Date` of a response, from the host's clock. hyper's own `Date` only changes when the clock passes the next second. After
//! a clock jump ahead and back it would stay at the later time until the clock has caught up, and browsers calculate the expiry
//! of a cookie from it.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

/// 9999-12-31T23:59:59Z, the last date that HTTP can represent.
const LAST_DATE_S: u64 = 253_402_300_799;

thread_local! {
    /// The second of the last call and its text. Most responses are sent within the same second.
    static CACHED: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// Returns the value of `Date` at `now_ms` (milliseconds since the epoch).
pub(crate) fn date(now_ms: i64) -> HeaderValue {
    let second = u64::try_from(now_ms.div_euclid(1000)).unwrap_or(0);
    let second = second.min(LAST_DATE_S);
    CACHED.with_borrow_mut(|cached| match cached {
        Some((at, text)) if *at == second => text.clone(),
        _ => {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            let text = HeaderValue::try_from(text).expect("a date is printable");
            *cached = Some((second, text.clone()));
            text
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_a_clock_that_jumps_ahead_and_back() {
        for (now_ms, text) in [
            (1_700_000_000_000, "Tue, 14 Nov 2023 22:13:20 GMT"),
            (1_700_000_000_999, "Tue, 14 Nov 2023 22:13:20 GMT"),
            (1_700_086_400_000, "Wed, 15 Nov 2023 22:13:20 GMT"),
            (1_700_000_001_000, "Tue, 14 Nov 2023 22:13:21 GMT"),
            (-1, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(now_ms), text, "{now_ms}");
        }
    }
}
