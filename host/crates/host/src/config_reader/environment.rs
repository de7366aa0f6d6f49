//! The environment, behind a trait so that tests can replace it, and the references `env:NAME` and `file:PATH`.

use std::path::Path;

use cloakroom_base::files;

/// The prefix of the variables of this program.
pub(crate) const VARIABLE_PREFIX: &str = "CLOAKROOM_";

/// Returns the variable that sets a key. For `session.cookie.path` this is `CLOAKROOM_SESSION_COOKIE_PATH`.
pub(crate) fn variable_name(path: &str) -> String {
    let path = path.replace('.', "_").to_ascii_uppercase();
    format!("{VARIABLE_PREFIX}{path}")
}

/// A source of environment variables.
pub trait Environment {
    /// Returns the value of the variable, or `None` if it is not set or not Unicode.
    fn get(&self, name: &str) -> Option<String>;

    /// Returns the names of all variables that begin with `prefix`, in no particular order.
    fn names(&self, prefix: &str) -> Vec<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

/// A fixed environment. If a name occurs twice, its first entry is used.
impl<const N: usize> Environment for [(&str, &str); N] {
    fn get(&self, name: &str) -> Option<String> {
        let entry = self.iter().find(|(key, _)| *key == name)?;
        Some(entry.1.to_owned())
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.iter().map(|(name, _)| (*name).to_owned());
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

/// The target of a reference.
pub(crate) enum EnvReference<'a> {
    Variable(&'a str),
    File(&'a str),
}

impl<'a> EnvReference<'a> {
    /// Parses `env:NAME` or `file:PATH`. Returns `None` for any other text.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let variable = text.strip_prefix("env:").map(Self::Variable);
        variable.or_else(|| text.strip_prefix("file:").map(Self::File))
    }

    /// Returns the referenced value, without the last line end if it is a file. The error contains the problem and the remedy.
    /// `warn` receives warnings about settings that are allowed and probably not intended.
    ///
    /// Relative paths are resolved against `base`.
    pub(crate) fn read(
        &self,
        environment: &dyn Environment,
        base: &Path,
        warn: impl FnOnce(String),
    ) -> Result<Vec<u8>, (String, String)> {
        match self {
            Self::Variable(name) => match environment.get(name) {
                Some(value) if !value.is_empty() => Ok(value.into_bytes()),
                Some(_) => Err((
                    format!("the environment variable {name} is empty"),
                    format!("set {name}"),
                )),
                None => Err((
                    format!("the environment variable {name} is not set"),
                    format!("set {name}, or name another variable or a file: \"file:PATH\""),
                )),
            },
            Self::File(path) => {
                let path = base.join(path);
                let shown = path.display();
                let file = files::read_secret(&path).map_err(|error| {
                    let remedy = error.remedy(&shown.to_string());
                    (format!("cannot read {shown}: {error}"), remedy)
                })?;
                if file.is_readable_by_all {
                    warn(format!(
                        "every user of this machine may read {shown}: chmod it to 600"
                    ));
                }
                let mut content = file.into_bytes();
                if content.ends_with(b"\n") {
                    content.pop();
                    if content.ends_with(b"\r") {
                        content.pop();
                    }
                }
                if content.is_empty() {
                    let remedy = "write the secret into it".to_owned();
                    return Err((format!("{shown} is empty"), remedy));
                }
                Ok(content)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_variable_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s"), "from a file\r\n").unwrap();
        let read = |text| {
            EnvReference::parse(text).unwrap().read(
                &[("S", "from a variable"), ("EMPTY", "")],
                folder.path(),
                drop,
            )
        };
        assert_eq!(read("env:S").unwrap(), b"from a variable");
        assert_eq!(read("file:s").unwrap(), b"from a file");
        assert!(EnvReference::parse("plain").is_none());
    }

    #[test]
    fn a_missing_or_empty_reference_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let problem = |text| {
            EnvReference::parse(text)
                .unwrap()
                .read(&[("EMPTY", "")], folder.path(), drop)
                .unwrap_err()
                .0
        };
        assert_eq!(problem("env:NO"), "the environment variable NO is not set");
        assert_eq!(
            problem("env:EMPTY"),
            "the environment variable EMPTY is empty"
        );
        assert!(problem("file:empty").ends_with("empty is empty"));
        assert!(problem("file:absent").starts_with("cannot read "));
    }
}
