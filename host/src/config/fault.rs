//! One thing that is wrong with the configuration: which key, where, what and the remedy. Never holds a secret's value.

use std::fmt;
use std::path::PathBuf;

use crate::telemetry::escape;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, on this line (counted from 1) where it is known.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the key.
        line: Option<usize>,
    },
    /// In this environment variable.
    Environment(String),
    /// In this flag or argument of the command line.
    Flag(&'static str),
    /// Nowhere: the setting is missing, or the fault is not about one setting.
    Nowhere,
}

impl fmt::Display for Origin {
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

/// One fault of the configuration. `Display` is two lines: where, the key and the problem; then the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the setting was given.
    pub origin: Origin,
    /// The key's full path, as `session.cookie.max_age` or `route[0].path`; empty when the fault is not about one key.
    pub key: String,
    /// What is wrong, without secrets.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    /// A fault that was found after the file was read, in what `key` names (a component that does not load, a store that does not open).
    pub fn new(
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            origin: Origin::Nowhere,
            key: key.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The same fault, found at `origin`.
    #[must_use]
    pub fn at(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Nowhere {
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

impl std::error::Error for Fault {}
