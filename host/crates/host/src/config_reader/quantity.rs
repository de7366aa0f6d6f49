//! Durations and sizes: `24h`, `1500ms`, `64KiB`, or a plain number of milliseconds or bytes.

use std::time::Duration;

/// Longest duration that is accepted. The `expires` column ends in 2106, and no setting needs more.
const DURATION_MAX: Duration = Duration::from_secs(50 * 365 * 24 * 3600);

/// Error returned when a text is not a duration or a size. It completes a sentence that begins with the value.
pub(crate) type Complaint = &'static str;

/// Parses a duration such as `1h 30m`.
///
/// In the file, milliseconds are an integer. Digits in quotes are refused there, because express-session accepted such a text
/// and then hung.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Complaint> {
    match humantime::parse_duration(text) {
        Ok(duration) => check_duration(duration),
        Err(_) if is_number(text) => {
            Err("has no unit: write milliseconds without quotes, or add ms, s, m, h or d")
        }
        Err(_) => Err("is not a duration"),
    }
}

/// Converts a number of milliseconds.
pub(crate) fn duration_of_ms(ms: i64) -> Result<Duration, Complaint> {
    let ms = u64::try_from(ms).map_err(|_| "is negative")?;
    check_duration(Duration::from_millis(ms))
}

fn check_duration(duration: Duration) -> Result<Duration, Complaint> {
    if duration < Duration::from_millis(1) {
        return Err("is less than 1 ms");
    }
    if duration > DURATION_MAX {
        return Err("is more than 50 years");
    }
    Ok(duration)
}

/// Parses `64KiB`, `10 MiB`, `500kB`, `1024B` or `1024`.
pub(crate) fn parse_size(text: &str) -> Result<u64, Complaint> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "is not a size")?;
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("is not a size"),
    };
    number.checked_mul(factor).ok_or("is too large")
}

/// Returns whether the text consists of digits only.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("24h", 86_400_000),
            ("30m", 1_800_000),
            ("1500ms", 1500),
            ("1h 30m", 5_400_000),
        ];
        for (text, ms) in cases {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        assert_eq!(
            duration_of_ms(86_400_000),
            Ok(Duration::from_secs(24 * 3600))
        );
    }

    #[test]
    fn digits_in_quotes_are_no_duration() {
        assert!(
            parse_duration("86400000")
                .unwrap_err()
                .starts_with("has no unit")
        );
        assert_eq!(parse_duration("soon"), Err("is not a duration"));
        assert_eq!(parse_duration("0s"), Err("is less than 1 ms"));
        assert_eq!(duration_of_ms(0), Err("is less than 1 ms"));
        assert_eq!(duration_of_ms(-1), Err("is negative"));
        assert_eq!(parse_duration("60y"), Err("is more than 50 years"));
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        let cases = [
            ("64KiB", 65_536),
            ("10 MiB", 10 << 20),
            ("1GiB", 1 << 30),
            ("500kB", 500_000),
            ("7B", 7),
            ("7", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "1.5MiB",
            "-1",
            "64kib",
            "99999999999999999999",
            "99999999999GiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
