//! Times in the format that JavaScript uses in JSON: ISO 8601, UTC, milliseconds. This module does not read a clock.

use std::time::UNIX_EPOCH;

const DAY_MS: i64 = 86_400_000;
/// 0000-01-01T00:00:00.000Z in milliseconds since the epoch: the first moment of the four-digit years.
const FIRST_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z in milliseconds since the epoch: the last moment of the four-digit years.
pub(crate) const LAST_MS: i64 = 253_402_300_799_999;

/// Formats a time (milliseconds since the epoch) like `Date.prototype.toISOString`: `2026-11-23T06:08:17.083Z`. A time outside
/// the years 0 to 9999 is replaced by the nearest one inside.
pub(crate) fn to_iso(ms: i64) -> String {
    let ms = ms.clamp(FIRST_MS, LAST_MS);
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil_of_days(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Parses a time in the formats of JavaScript's `Date` and of HTTP. Returns milliseconds since the epoch, or `None` for other
/// text. A time without a zone is read as UTC, because the writer's local zone is unknown.
pub(crate) fn parse(text: &str) -> Option<i64> {
    parse_iso(text).or_else(|| {
        let time = httpdate::parse_http_date(text).ok()?;
        i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    })
}

/// Parses `YYYY-MM-DD`, optionally followed by `Thh:mm[:ss[.fraction]]` and `Z` or `±hh:mm`.
fn parse_iso(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    let month = after(&mut rest, b'-', 2)?;
    let day = after(&mut rest, b'-', 2)?;
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let midnight_ms = days_of_civil(year, month, day) * DAY_MS;
    if rest.is_empty() {
        return Some(midnight_ms);
    }
    let hour = after(&mut rest, b'T', 2)?;
    let minute = after(&mut rest, b':', 2)?;
    let second = match rest.first() {
        Some(b':') => after(&mut rest, b':', 2)?,
        _ => 0,
    };
    let milli = milliseconds(&mut rest)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let zone_minutes = zone(rest)?;
    Some(midnight_ms + ((hour * 60 + minute - zone_minutes) * 60 + second) * 1000 + milli)
}

/// Parses an optional fraction of a second and truncates it to milliseconds.
fn milliseconds(rest: &mut &[u8]) -> Option<i64> {
    let Some(fraction) = rest.strip_prefix(b".") else {
        return Some(0);
    };
    let len = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    *rest = &fraction[len..];
    let digit = |at: usize| fraction[..len].get(at).map_or(0, |b| i64::from(b - b'0'));
    (len > 0).then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
}

/// Parses the zone at the end of a time. Returns its offset in minutes east of UTC.
fn zone(mut rest: &[u8]) -> Option<i64> {
    let sign = match rest.first() {
        None => return Some(0),
        Some(b'Z') if rest.len() == 1 => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    rest = &rest[1..];
    let hours = digits(&mut rest, 2)?;
    let minutes = after(&mut rest, b':', 2)?;
    (rest.is_empty() && hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Takes `separator` and a number of exactly `len` digits.
fn after(rest: &mut &[u8], separator: u8, len: usize) -> Option<i64> {
    *rest = rest.strip_prefix(&[separator])?;
    digits(rest, len)
}

/// Takes a number of exactly `len` digits.
fn digits(rest: &mut &[u8], len: usize) -> Option<i64> {
    let (number, others) = rest.split_at_checked(len)?;
    *rest = others;
    number.iter().try_fold(0, |sum, b| {
        b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0'))
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days since the epoch of a date in the Gregorian calendar. Years start in March, so that a leap day is the last
/// day of its year. 400 years are an era of 146,097 days. There are 719,468 days between 0000-03-01 and the epoch.
fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Returns the year, month and day of a day since the epoch. This is the inverse of [`days_of_civil`].
fn civil_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_and_read_as_javascript_does() {
        for (ms, iso) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1, "1970-01-01T00:00:00.001Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_414_097_083, "2026-11-23T06:08:17.083Z"),
            (1_795_417_639_380, "2026-11-23T07:07:19.380Z"),
            (2_147_483_648_000, "2038-01-19T03:14:08.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_294_967_295_000, "2106-02-07T06:28:15.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (FIRST_MS, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(to_iso(ms), iso);
            assert_eq!(parse(iso), Some(ms), "{iso}");
        }
    }

    #[test]
    fn every_day_up_to_the_year_9999_comes_back_and_follows_the_day_before() {
        let mut expected = (1970, 1, 1);
        for days in 0..=LAST_MS / DAY_MS {
            let (year, month, day) = civil_of_days(days);
            assert_eq!((year, month, day), expected);
            assert_eq!(days_of_civil(year, month, day), days);
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, last) if last == days_in_month(year, month) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }

    #[test]
    fn times_beyond_four_digit_years_are_written_as_the_nearest() {
        assert_eq!(to_iso(i64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(to_iso(i64::MIN), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn other_spellings_of_a_time_are_read() {
        let ms = 1_795_414_097_000;
        for text in [
            "2026-11-23T06:08:17Z",
            "2026-11-23T06:08:17",
            "2026-11-23T06:08:17.000999Z",
            "2026-11-23T08:08:17.0+02:00",
            "2026-11-22T23:38:17-06:30",
            "Mon, 23 Nov 2026 06:08:17 GMT",
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        assert_eq!(parse("2026-11-23T06:08Z"), Some(ms - 17_000));
        assert_eq!(parse("2026-11-23T06:08:17.5Z"), Some(ms + 500));
        assert_eq!(parse("2026-11-23"), Some(1_795_392_000_000));
    }

    #[test]
    fn an_invalid_timestamp_is_not_parsed() {
        for text in [
            "",
            "soon",
            "1795414097083",
            "2026",
            "2026-11-31",
            "2026-02-29T00:00:00Z",
            "2100-02-29",
            "2026-00-01",
            "2026-13-01",
            "2026-11-00",
            "2026-11-23T24:00:00Z",
            "2026-11-23T06:60:00Z",
            "2026-11-23T06:08:60Z",
            "2026-11-23T06:08:17.Z",
            "2026-11-23T06:08:17ZZ",
            "2026-11-23T06:08:17+2:00",
            "2026-11-23T06:08:17+24:00",
            "2026-11-23 06:08:17Z",
            "2026-11-23T",
            "+02026-11-23T06:08:17Z",
            "２026-11-23",
            "Thu, 01 Jan 1969 00:00:00 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
