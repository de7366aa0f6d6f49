//! A fault of the configuration: the key, the place, the problem and the remedy. Never contains the value of a secret.

use std::fmt;
use std::path::PathBuf;

use cloakroom_base::telemetry::escape;

/// The place where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    /// A file. The line is counted from 1, and `None` if it is not known.
    File {
        /// The path of the file, as it was given.
        path: PathBuf,
        /// The line of the key.
        line: Option<usize>,
    },
    /// An environment variable.
    Environment(String),
    /// An option or argument of the command line.
    Flag(&'static str),
    /// No place: the setting is missing, or the fault concerns several settings.
    Nowhere,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Nowhere => Ok(()),
        }
    }
}

/// A fault of the configuration. `Display` prints two lines: the place, the key and the problem, then the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The place where the setting was given.
    pub origin: SettingOrigin,
    /// The full path of the key, such as `session.cookie.max_age` or `route[0].path`. Empty if the fault does not concern a
    /// single key.
    pub key: String,
    /// A description of the problem, without secrets.
    pub problem: String,
    /// A way to correct the problem.
    pub remedy: String,
}

impl ConfigFault {
    /// Creates a fault that was found after the file was read, for example a component that does not load or a store that does
    /// not open. `key` is the key that names the cause.
    pub fn new(
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            origin: SettingOrigin::Nowhere,
            key: key.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Returns the same fault with its place.
    #[must_use]
    pub fn at(self, origin: SettingOrigin) -> Self {
        Self { origin, ..self }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != SettingOrigin::Nowhere {
            write!(f, "{}: ", escape(&self.origin.to_string()))?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", escape(&self.key))?;
        }
        f.write_str(&escape(&self.problem))?;
        if !self.remedy.is_empty() {
            write!(f, "\n    {}", escape(&self.remedy))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFault {}
