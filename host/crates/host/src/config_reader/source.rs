//! The settings and their places: TOML text as a tree of values with their line numbers. This module does not know the meaning
//! of any key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigFault, SettingOrigin};

/// A value and the place where it was given.
#[derive(Clone)]
pub(crate) struct ValueNode {
    pub(crate) value: TomlValue,
    pub(crate) origin: SettingOrigin,
}

/// A TOML value. Has no `Debug`, because any value may be a secret.
#[derive(Clone)]
pub(crate) enum TomlValue {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date or time in TOML notation.
    Moment(String),
    List(Vec<ValueNode>),
    Table(Table),
}

/// Keys and their values, in alphabetical order.
pub(crate) type Table = BTreeMap<String, ValueNode>;

impl TomlValue {
    /// Returns the kind of the value with an article, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Moment(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Formats the value for messages, with texts in quotes. Must not be used for values that may be secrets.
impl fmt::Display for TomlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::Moment(moment) => f.write_str(moment),
            Self::List(_) | Self::Table(_) => f.write_str(self.kind()),
        }
    }
}

/// Parses TOML. The part that could be read is returned together with the faults, so that it can be checked in the same run.
pub(crate) fn parse(path: &Path, text: &str) -> (Table, Vec<ConfigFault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let file = ConfigFile {
        path: path.to_owned(),
        text,
        is_toml: errors.is_empty(),
        line_starts: std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect(),
    };
    let mut faults: Vec<ConfigFault> = errors
        .iter()
        .map(|error| {
            // The `Display` of the error quotes the line, which may contain a secret.
            let problem = format!("not TOML: {}", error.message());
            let origin = file.origin(error.span().map(|span| span.start));
            ConfigFault::new("", problem, "see https://toml.io for the syntax").at(origin)
        })
        .collect();
    let table = file.table(table.into_inner(), &mut faults);
    (table, faults)
}

struct ConfigFile<'t> {
    path: PathBuf,
    text: &'t str,
    is_toml: bool,
    line_starts: Vec<usize>,
}

impl ConfigFile<'_> {
    fn origin(&self, byte: Option<usize>) -> SettingOrigin {
        let line = byte.map(|byte| self.line_starts.partition_point(|start| *start <= byte));
        SettingOrigin::File {
            path: self.path.clone(),
            line,
        }
    }

    fn table(&self, table: DeTable<'_>, faults: &mut Vec<ConfigFault>) -> Table {
        let mut read = Table::new();
        for (key, value) in table {
            // With an extra quote, the following lines become part of a key. Messages quote keys, and these lines may contain a
            // secret.
            if self.text[key.span()].contains('\n') {
                continue;
            }
            let origin = self.origin(Some(key.span().start));
            let value = self.value(value, faults);
            read.insert(key.into_inner().into_owned(), ValueNode { value, origin });
        }
        read
    }

    fn value(&self, value: Spanned<DeValue<'_>>, faults: &mut Vec<ConfigFault>) -> TomlValue {
        let origin = self.origin(Some(value.span().start));
        match value.into_inner() {
            DeValue::String(text) => TomlValue::Text(match text.split_once('\n') {
                // In the same way, they become part of this value.
                Some((first_line, _)) if !self.is_toml => first_line.to_owned(),
                _ => text.into_owned(),
            }),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => TomlValue::Integer(number),
                    Err(_) => {
                        let problem = format!("{} is too large", number.as_str());
                        let remedy = "integers have at most 63 bits";
                        faults.push(ConfigFault::new("", problem, remedy).at(origin));
                        TomlValue::Integer(i64::MAX)
                    }
                }
            }
            DeValue::Float(number) => TomlValue::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => TomlValue::Boolean(flag),
            DeValue::Datetime(moment) => TomlValue::Moment(moment.to_string()),
            DeValue::Array(items) => TomlValue::List(
                items
                    .into_iter()
                    .map(|item| {
                        let origin = self.origin(Some(item.span().start));
                        let value = self.value(item, faults);
                        ValueNode { value, origin }
                    })
                    .collect(),
            ),
            DeValue::Table(table) => TomlValue::Table(self.table(table, faults)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_several_lines_is_a_syntax_error() {
        let text = "['''a\nsecrets = [\"x\"]\n''']\nb = 1\n[c]\nd = 2\n";
        let (table, faults) = parse(Path::new("f.toml"), text);
        assert_eq!(table.keys().collect::<Vec<_>>(), ["c"]);
        let messages: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(
            messages[0].contains("f.toml:1: not TOML") && !messages[0].contains("secrets"),
            "{messages:?}"
        );
    }

    #[test]
    fn every_value_has_its_line_number() {
        let text = "a = 1\n[b]\nc = \"x\"\nlist = [\n  true,\n  false,\n]\n";
        let (table, faults) = parse(Path::new("f.toml"), text);
        assert!(faults.is_empty());
        assert_eq!(table["a"].origin.to_string(), "f.toml:1");
        let TomlValue::Table(b) = &table["b"].value else {
            panic!("b is a table");
        };
        assert_eq!(b["c"].origin.to_string(), "f.toml:3");
        let TomlValue::List(list) = &b["list"].value else {
            panic!("list is a list");
        };
        assert_eq!(list[1].origin.to_string(), "f.toml:6");
    }

    #[test]
    fn invalid_toml_is_reported_by_line_number_without_its_text() {
        let text = "listen = \"127.0.0.1:1\"\npassword = \"hunter2\n[store]\nurl = 1 2\n";
        let (table, faults) = parse(Path::new("f.toml"), text);
        let shown: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(faults.len() >= 2, "{shown:?}");
        assert!(shown[0].starts_with("f.toml:2: not TOML: "), "{shown:?}");
        assert!(!shown.concat().contains("hunter2"));
        assert!(table.contains_key("listen"), "the rest is still read");
    }
}
