//! Descriptions of JSON errors that quote no values, so that they may be logged for session data and request bodies.

use serde_json::error::Category;

/// Describes a JSON error without the values that its own message would quote, because they may be private.
pub(crate) fn fault(error: &serde_json::Error) -> String {
    let place = format!("at line {} column {}", error.line(), error.column());
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => format!("not a JSON text, {place}"),
        Category::Data if error.line() == 0 => {
            format!("not the expected shape{}", expectation(error))
        }
        Category::Data => format!("not the expected shape{}, {place}", expectation(error)),
    }
}

/// Returns the part of serde's message that comes from the Rust type: `: missing field ...` or `: expected ...`.
fn expectation(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = match message.rsplit_once(" at line ") {
        Some((message, _place)) => message,
        None => &message,
    };
    if message.starts_with("missing field `") {
        return format!(": {message}");
    }
    // A quoted value can contain these words too. The text after their last occurrence comes from the type.
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!(": expected {expected}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Cart {
        #[allow(dead_code, reason = "only its absence is looked at")]
        items: Vec<u64>,
    }

    fn fault_of(text: &str) -> String {
        fault(&serde_json::from_str::<Cart>(text).expect_err("it does not fit"))
    }

    #[test]
    fn a_json_error_names_the_expected_type_and_the_position() {
        assert_eq!(fault_of("{"), "not a JSON text, at line 1 column 1");
        assert_eq!(
            fault_of("{}"),
            "not the expected shape: missing field `items`, at line 1 column 2"
        );
        assert_eq!(
            fault_of(r#"{"items":["secret"]}"#),
            "not the expected shape: expected u64, at line 1 column 18"
        );
    }

    #[test]
    fn a_json_error_never_quotes_the_value() {
        for value in [
            r#""secret""#,
            r#"["secret, expected u64 at line 1"]"#,
            r#"{"secret":1}"#,
        ] {
            let fault = fault_of(&format!(r#"{{"items":{value}}}"#));
            assert!(!fault.contains("secret"), "{fault}");
        }
    }
}
