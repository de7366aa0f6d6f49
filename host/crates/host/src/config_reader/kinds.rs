//! The kinds of values that keys accept, with their errors: booleans, words, durations, sizes, lists and secrets.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::environment::EnvReference;
use super::fault::SettingOrigin;
use super::quantity;
use super::random_secret::random_secret;
use super::source::TomlValue;
use super::{ConfigMode, ConfigReader};
use cloakroom_base::files;
use cloakroom_base::files::FileError;

/// The value of a key that is being converted to a type.
pub(crate) struct Field<'a> {
    pub(crate) value: &'a TomlValue,
    pub(crate) origin: &'a SettingOrigin,
    pub(crate) reader: &'a ConfigReader<'a>,
}

/// Error returned when a value is not accepted.
#[derive(Debug)]
pub(crate) struct ValueError {
    /// The item of a list, such as `[0]`. Empty for the value itself.
    pub(crate) item: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl ValueError {
    pub(crate) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            item: String::new(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Returns the same error for a key of a table.
    pub(crate) fn of_part(self, key: &str) -> Self {
        Self {
            item: format!(".{key}{}", self.item),
            ..self
        }
    }

    /// Returns the same error for an item of a list, or for a part of that item.
    pub(crate) fn of_item(self, index: usize) -> Self {
        Self {
            item: format!("[{index}]{}", self.item),
            ..self
        }
    }
}

impl Field<'_> {
    /// Returns whether the value comes from the file, where values have types. Elsewhere all values are texts.
    fn is_typed(&self) -> bool {
        matches!(self.origin, SettingOrigin::File { .. })
    }

    /// Returns whether the secret is not needed, so that a random one replaces it.
    fn is_test(&self) -> bool {
        self.reader.mode() == ConfigMode::Test
    }

    /// Returns the secret for a value that contains it in clear text.
    fn plain_secret(&self, text: &str) -> Vec<u8> {
        match self.is_test() {
            true => random_secret(),
            false => text.as_bytes().to_vec(),
        }
    }

    fn expected(&self, what: &str, remedy: &str) -> ValueError {
        ValueError::new(
            format!("expected {what}, found {}", self.value.kind()),
            remedy,
        )
    }
}

/// Reads `true` or `false`.
pub(crate) fn boolean(field: &Field<'_>) -> Result<bool, ValueError> {
    match field.value {
        TomlValue::Boolean(flag) => Ok(*flag),
        TomlValue::Text(text) if !field.is_typed() => match text.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(ValueError::new(
                format!("{text:?} is neither true nor false"),
                "write true or false",
            )),
        },
        TomlValue::Text(text) if text == "true" || text == "false" => {
            Err(field.expected("a boolean", &format!("write {text} without quotes")))
        }
        _ => Err(field.expected("a boolean", "write true or false")),
    }
}

/// Reads a text, which must not be empty.
pub(crate) fn text(field: &Field<'_>) -> Result<String, ValueError> {
    match field.value {
        TomlValue::Text(text) if text.is_empty() => Err(ValueError::new(
            "is empty",
            "write a value, or leave the key out",
        )),
        TomlValue::Text(text) => Ok(text.clone()),
        _ => Err(field.expected("a string", "write the value in quotes")),
    }
}

/// Reads one of a fixed set of words, and returns its value.
pub(crate) fn word<T: Clone>(
    words: &'static [(&'static str, T)],
) -> impl FnOnce(&Field<'_>) -> Result<T, ValueError> {
    move |field| {
        let remedy = || {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("write {}", words.join(" or "))
        };
        let TomlValue::Text(text) = field.value else {
            return Err(field.expected("a string", &remedy()));
        };
        let found = words.iter().find(|(word, _)| word == text);
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| ValueError::new(format!("{text:?} is not one of its values"), remedy()))
    }
}

/// Reads a duration: a text with units, or a number of milliseconds, as in Express.
pub(crate) fn duration(field: &Field<'_>) -> Result<Duration, ValueError> {
    const REMEDY: &str =
        "write \"24h\", \"30m\", \"10s\", \"1500ms\", or milliseconds as a plain integer";
    let read = match field.value {
        TomlValue::Integer(ms) => quantity::duration_of_ms(*ms),
        TomlValue::Text(text) if !field.is_typed() && quantity::is_number(text) => text
            .parse()
            .map_or(Err("is too large"), quantity::duration_of_ms),
        TomlValue::Text(text) => quantity::parse_duration(text),
        _ => return Err(field.expected("a duration", REMEDY)),
    };
    read.map_err(|problem| ValueError::new(format!("{} {problem}", field.value), REMEDY))
}

/// Reads a percentage above 0% and up to 100%. Returns it as a fraction.
pub(crate) fn share(field: &Field<'_>) -> Result<f64, ValueError> {
    const REMEDY: &str = "write a percentage in quotes, such as \"10%\" or \"0.5%\"";
    let TomlValue::Text(text) = field.value else {
        return Err(field.expected("a percentage", REMEDY));
    };
    let number = text.strip_suffix('%').map(str::trim_end);
    match number.and_then(|number| number.parse::<f64>().ok()) {
        Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(ValueError::new(
            format!("{text:?} is not a percentage above 0% and up to 100%"),
            REMEDY,
        )),
    }
}

/// Reads a size in bytes: a text with units, or a number of bytes.
pub(crate) fn size(field: &Field<'_>) -> Result<u64, ValueError> {
    const REMEDY: &str = "write \"64KiB\", \"10MiB\", \"1GiB\", or bytes as a plain integer";
    let read = match field.value {
        TomlValue::Integer(bytes) => u64::try_from(*bytes).map_err(|_| "is negative"),
        TomlValue::Text(text) => quantity::parse_size(text),
        _ => return Err(field.expected("a size", REMEDY)),
    };
    read.map_err(|problem| ValueError::new(format!("{} {problem}", field.value), REMEDY))
}

/// Reads a size in bytes within bounds.
pub(crate) fn size_in<T: TryFrom<usize>>(
    least: usize,
    most: usize,
) -> impl FnOnce(&Field<'_>) -> Result<T, ValueError> {
    move |field| {
        let bytes = size(field)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        within(field, bytes, least, most, "bytes")
    }
}

/// Reads a number within bounds.
pub(crate) fn count_in<T: TryFrom<usize>>(
    least: usize,
    most: usize,
) -> impl FnOnce(&Field<'_>) -> Result<T, ValueError> {
    move |field| {
        let number = match field.value {
            TomlValue::Integer(number) => Some(*number),
            TomlValue::Text(text) if !field.is_typed() => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            let remedy = format!("write an integer from {least} to {most}");
            return Err(field.expected("an integer", &remedy));
        };
        within(field, usize::try_from(number).unwrap_or(0), least, most, "")
    }
}

fn within<T: TryFrom<usize>>(
    field: &Field<'_>,
    number: usize,
    least: usize,
    most: usize,
    unit: &str,
) -> Result<T, ValueError> {
    if (least..=most).contains(&number)
        && let Ok(number) = T::try_from(number)
    {
        return Ok(number);
    }
    let remedy = format!("write {least} to {most} {unit}");
    let problem = format!("{} is out of range", field.value);
    Err(ValueError::new(problem, remedy.trim_end()))
}

/// Reads a list of texts. Outside of the file, the texts are separated by commas.
pub(crate) fn texts(field: &Field<'_>) -> Result<Vec<String>, ValueError> {
    match field.value {
        TomlValue::List(items) => {
            let read = items.iter().enumerate().map(|(index, item)| {
                let item = Field {
                    value: &item.value,
                    ..*field
                };
                text(&item).map_err(|error| error.of_item(index))
            });
            read.collect()
        }
        TomlValue::Text(text) if !field.is_typed() => {
            Ok(text.split(',').map(|item| item.trim().to_owned()).collect())
        }
        TomlValue::Text(text) => {
            Err(field.expected("a list of strings", &format!("write [{text:?}]")))
        }
        _ => Err(field.expected("a list of strings", "write [\"...\", \"...\"]")),
    }
}

/// Reads a list whose items are parsed by `parse`. The error names the first invalid item.
pub(crate) fn items<T>(
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> impl FnOnce(&Field<'_>) -> Result<Vec<T>, ValueError> {
    move |field| {
        let texts = texts(field)?;
        let read = texts
            .iter()
            .enumerate()
            .map(|(index, text)| parse(text).map_err(|error| error.of_item(index)));
        read.collect()
    }
}

/// Reads a list as [`items`] does, with at least one item. Used for keys that allow everything if they are left out: an empty
/// list would suggest the opposite.
pub(crate) fn some_items<T>(
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> impl FnOnce(&Field<'_>) -> Result<Vec<T>, ValueError> {
    move |field| {
        let items = items(parse)(field)?;
        if items.is_empty() {
            return Err(ValueError::new(
                "the list is empty, which would allow none",
                "write at least one, or leave the key out to allow all",
            ));
        }
        Ok(items)
    }
}

/// Reads a path. In the file, it is relative to the directory of the file.
pub(crate) fn path(field: &Field<'_>) -> Result<PathBuf, ValueError> {
    let path = text(field)?;
    Ok(if field.is_typed() {
        field.reader.base().join(path)
    } else {
        path.into()
    })
}

/// Reads the path of an existing file.
pub(crate) fn existing_file(field: &Field<'_>) -> Result<PathBuf, ValueError> {
    let path = path(field)?;
    let shown = path.display();
    match files::open(&path) {
        Ok(_) => Ok(path),
        Err(FileError::NotAFile(kind)) => Err(ValueError::new(
            format!("{shown} is not a file: it is {kind}"),
            "name a file",
        )),
        Err(error) => Err(ValueError::new(
            format!("cannot read {shown}: {error}"),
            "name a file that exists; a relative path starts at the folder of the configuration file",
        )),
    }
}

/// Reads a secret. In the file it must be a reference. Elsewhere it may also be the secret itself.
pub(crate) fn secret(field: &Field<'_>) -> Result<SecretString, ValueError> {
    let TomlValue::Text(text) = field.value else {
        return Err(field.expected("a string", "write \"env:NAME\" or \"file:PATH\""));
    };
    let bytes = secret_bytes(field, text)?;
    String::from_utf8(bytes)
        .map(SecretString::from)
        .map_err(|_| ValueError::new("is not UTF-8", "write the secret as UTF-8 text"))
}

/// Reads a list of secrets. Outside of the file, this is a single secret or references separated by commas.
pub(crate) fn secrets(field: &Field<'_>) -> Result<Vec<Vec<u8>>, ValueError> {
    const REMEDY: &str = "write [\"env:NAME\"] or [\"file:PATH\"]";
    match field.value {
        TomlValue::List(items) => {
            let read = items.iter().enumerate().map(|(index, item)| {
                let TomlValue::Text(text) = &item.value else {
                    return Err(field.expected("strings", REMEDY).of_item(index));
                };
                secret_bytes(field, text).map_err(|error| error.of_item(index))
            });
            read.collect()
        }
        TomlValue::Text(text) if !field.is_typed() => {
            if text
                .split(',')
                .all(|item| EnvReference::parse(item.trim()).is_some())
            {
                let items = text.split(',').map(|item| secret_bytes(field, item.trim()));
                items.collect()
            } else {
                Ok(vec![field.plain_secret(text)])
            }
        }
        _ => Err(field.expected("a list", REMEDY)),
    }
}

fn secret_bytes(field: &Field<'_>, text: &str) -> Result<Vec<u8>, ValueError> {
    match EnvReference::parse(text) {
        Some(_) if field.is_test() => Ok(random_secret()),
        Some(reference) => reference
            .read(field.reader.environment(), field.reader.base(), |warning| {
                field.reader.warn(warning)
            })
            .map_err(|(problem, remedy)| ValueError::new(problem, remedy)),
        None if field.is_typed() => Err(ValueError::new(
            "is a secret in clear text",
            "keep it out of this file: write \"env:NAME\" and set that variable, or \"file:PATH\"",
        )),
        None => Ok(field.plain_secret(text)),
    }
}
