//! The last step before a log line is written. Whatever an event's fields contain, the result is one line of limited length
//! without characters that could control a terminal. Only this module adds colors.

use std::borrow::Cow;

use super::escape::{EscapeForm, cut};

/// The longest log line, in bytes, before harmful characters are escaped.
const LINE_BYTES_MAX: usize = 64 << 10;
/// The text at the end of a line that was cut.
const CUT: &str = " [cut]";

/// The processing of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEscaper {
    /// None: the writer has already escaped the line.
    AsItIs,
    /// Text without colors.
    Plain,
    /// Text with a colored time and level.
    Coloured,
    /// A JSON object.
    Json,
}

impl LineEscaper {
    /// Returns the line, including its line break, for a formatted event.
    pub(crate) fn apply(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
        if let Some((b'\n', line)) = bytes.split_last()
            && line.len() <= LINE_BYTES_MAX
            && self != Self::Coloured
            && line.iter().copied().all(is_plain)
        {
            return Cow::Borrowed(bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = match self {
            Self::AsItIs => text.to_owned(),
            Self::Plain => bounded(text),
            Self::Coloured => coloured(&bounded(text)),
            Self::Json => json(text),
        };
        line.push('\n');
        Cow::Owned(line.into_bytes())
    }
}

fn bounded(text: &str) -> String {
    let (text, is_whole) = cut(text, LINE_BYTES_MAX);
    let mut line = EscapeForm::Text.escape(text).into_owned();
    if !is_whole {
        line.push_str(CUT);
    }
    line
}

fn json(text: &str) -> String {
    let (start, is_whole) = cut(text, LINE_BYTES_MAX);
    let line = match is_whole {
        true => Cow::Borrowed(text),
        // A JSON object that is cut is not valid JSON.
        false => Cow::Owned(
            serde_json::json!({
                "level": "WARN",
                "target": "cloakroom::telemetry",
                "message": "a log line was too long and was cut",
                "line": format!("{start}{CUT}"),
            })
            .to_string(),
        ),
    };
    EscapeForm::Json.escape(&line).into_owned()
}

/// Dims the time and colors the level of `2026-11-30T03:27:00.000000Z  INFO target: ...`.
fn coloured(line: &str) -> String {
    let Some((time, rest)) = line.split_once(' ') else {
        return line.to_owned();
    };
    let rest = rest.trim_start();
    let (level, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let ink = match level {
        "ERROR" => "31",
        "WARN" => "33",
        "INFO" => "32",
        "DEBUG" => "34",
        "TRACE" => "35",
        _ => return line.to_owned(),
    };
    format!("\x1b[2m{time}\x1b[0m \x1b[{ink}m{level:>5}\x1b[0m {rest}")
}

#[cfg(test)]
mod tests {
    use super::super::escape::tests::HARMFUL;
    use super::*;

    fn line(escaper: LineEscaper, text: &str) -> String {
        String::from_utf8(escaper.apply(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_log_line_stays_one_line_with_harmful_characters_in_its_fields() {
        let foreign: String = HARMFUL.iter().collect();
        let event = format!("2026-11-30T03:27:00Z  INFO target: {foreign}\n");
        for escaper in [LineEscaper::Plain, LineEscaper::Coloured] {
            let line = line(escaper, &event);
            let line = line.strip_suffix('\n').unwrap();
            let own = ["\x1b[2m", "\x1b[0m", "\x1b[32m"];
            let rest = own
                .iter()
                .fold(line.to_owned(), |line, own| line.replace(own, ""));
            assert!(rest.chars().all(|c| (' '..='~').contains(&c)), "{rest:?}");
        }
        let event = format!("{}\n", serde_json::json!({ "message": foreign }));
        let line = line(LineEscaper::Json, &event);
        assert!(
            line.trim_end().chars().all(|c| (' '..='~').contains(&c)),
            "{line:?}"
        );
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], foreign);
    }

    #[test]
    fn an_overlong_log_line_is_cut_and_keeps_its_format() {
        let long = "ä".repeat(LINE_BYTES_MAX);
        let text = line(LineEscaper::Plain, &format!("{long}\n"));
        assert!(text.len() < LINE_BYTES_MAX + 16 && text.ends_with("ä [cut]\n"));
        let event = format!("{}\n", serde_json::json!({ "message": long }));
        let json = line(LineEscaper::Json, &event);
        let read: serde_json::Value = serde_json::from_str(&json).expect("still JSON");
        assert!(read["line"].as_str().unwrap().ends_with(CUT));
        assert!(json.len() < 2 * LINE_BYTES_MAX);
    }

    #[test]
    fn only_time_and_level_have_colours() {
        let event = "2026-11-30T03:27:00Z  WARN a: b\n";
        assert_eq!(
            line(LineEscaper::Coloured, event),
            "\x1b[2m2026-11-30T03:27:00Z\x1b[0m \x1b[33m WARN\x1b[0m a: b\n"
        );
        assert_eq!(line(LineEscaper::Plain, event), event);
    }
}
