//! What an examination of a store found: one finding for each subject, of each server. Knows no store and no terminal.

use std::fmt;

/// One subject of an examination. `Display` is one line: the server, how it stands, the subject, the finding, the remedy.
///
/// It may name hosts, accounts, tables and SQL that helps; never an id, data or a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The server that it is about; none where there is only one, or where it is about all of them.
    pub server: Option<String>,
    /// What was looked at: `schema`, `charset`, `privileges`, `causality`, `latency`, `clock`.
    pub subject: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What helps; empty where nothing has to be done.
    pub remedy: String,
}

/// How one subject stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has to be done.
    Good,
    /// The store serves; something is slower or weaker than it could be.
    Warning,
    /// The store cannot serve, or gives wrong answers.
    Fault,
}

impl Finding {
    pub(super) fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self {
            server: None,
            subject,
            state: State::Good,
            found: found.into(),
            remedy: String::new(),
        }
    }

    pub(super) fn warning(
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            server: None,
            subject,
            state: State::Warning,
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    /// A finding that keeps the store from serving.
    pub fn fault(
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            server: None,
            subject,
            state: State::Fault,
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    /// The same, about the server of this name.
    pub(super) fn at(self, server: &str) -> Self {
        Self {
            server: Some(server.to_owned()),
            ..self
        }
    }

    /// Several problems of one subject as one finding; the good one where there is none.
    pub(super) fn of_problems(
        subject: &'static str,
        good: impl Into<String>,
        problems: Vec<Self>,
    ) -> Self {
        if problems.is_empty() {
            return Self::good(subject, good);
        }
        let is_fault = problems.iter().any(|it| it.state == State::Fault);
        let joined = |text: fn(&Self) -> &str| {
            let texts: Vec<_> = problems
                .iter()
                .map(text)
                .filter(|it| !it.is_empty())
                .collect();
            texts.join("; ")
        };
        Self {
            server: None,
            subject,
            state: if is_fault {
                State::Fault
            } else {
                State::Warning
            },
            found: joined(|it| &it.found),
            remedy: joined(|it| &it.remedy),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Good => "ok",
            State::Warning => "warning",
            State::Fault => "fault",
        };
        if let Some(server) = &self.server {
            write!(f, "{server}: ")?;
        }
        write!(f, "{state}: {}: {}", self.subject, self.found)?;
        if !self.remedy.is_empty() {
            write!(f, "; remedy: {}", self.remedy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_problems_are_one_line_and_the_worst_counts() {
        let problems = vec![
            Finding::warning("schema", "no index", "add it"),
            Finding::fault("schema", "no key", "add a key"),
        ];
        let finding = Finding::of_problems("schema", "as it should be", problems);
        assert_eq!(
            finding.to_string(),
            "fault: schema: no index; no key; remedy: add it; add a key"
        );
        let good = Finding::of_problems("schema", "as it should be", Vec::new());
        assert_eq!(good.to_string(), "ok: schema: as it should be");
        let one_of_several = good.at("db2:3306").to_string();
        assert_eq!(one_of_several, "db2:3306: ok: schema: as it should be");
    }
}
