//! The result of a store examination: one finding per subject and server. Knows no store and no terminal.

use std::fmt;

/// The finding on one subject of an examination. `Display` prints one line: the server, the state, the subject, the
/// finding and the remedy.
///
/// It may name hosts, accounts, tables and helpful SQL, but never an id, data or a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExamineFinding {
    /// The server that the finding is about. `None` if there is only one server or the finding is about all of them.
    pub server: Option<String>,
    /// The examined subject: `schema`, `charset`, `privileges`, `causality`, `latency` or `clock`.
    pub subject: &'static str,
    /// The state of the subject.
    pub state: ExamineState,
    /// Description of the finding.
    pub found: String,
    /// The remedy; empty if nothing has to be done.
    pub remedy: String,
}

/// The state of one examined subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExamineState {
    /// Nothing has to be done.
    Good,
    /// The store serves, but some part is slower or less safe than it could be.
    Warning,
    /// The store cannot serve, or gives wrong answers.
    Fault,
}

impl ExamineFinding {
    /// Creates a finding without a problem.
    pub fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self {
            server: None,
            subject,
            state: ExamineState::Good,
            found: found.into(),
            remedy: String::new(),
        }
    }

    /// Creates a finding that should be corrected but does not prevent the store from serving.
    pub fn warning(
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            server: None,
            subject,
            state: ExamineState::Warning,
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    /// Returns a finding that keeps the store from serving.
    pub fn fault(
        subject: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            server: None,
            subject,
            state: ExamineState::Fault,
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    /// Returns the same finding, attributed to the server with this name.
    pub fn at(self, server: &str) -> Self {
        Self {
            server: Some(server.to_owned()),
            ..self
        }
    }

    /// Merges several problems of one subject into one finding. Returns the good finding if there are no problems.
    pub fn of_problems(
        subject: &'static str,
        good: impl Into<String>,
        problems: Vec<Self>,
    ) -> Self {
        if problems.is_empty() {
            return Self::good(subject, good);
        }
        let is_fault = problems.iter().any(|it| it.state == ExamineState::Fault);
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
                ExamineState::Fault
            } else {
                ExamineState::Warning
            },
            found: joined(|it| &it.found),
            remedy: joined(|it| &it.remedy),
        }
    }
}

impl fmt::Display for ExamineFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            ExamineState::Good => "ok",
            ExamineState::Warning => "warning",
            ExamineState::Fault => "fault",
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
    fn several_problems_become_one_finding_with_the_worst_severity() {
        let problems = vec![
            ExamineFinding::warning("schema", "no index", "add it"),
            ExamineFinding::fault("schema", "no key", "add a key"),
        ];
        let finding = ExamineFinding::of_problems("schema", "as it should be", problems);
        assert_eq!(
            finding.to_string(),
            "fault: schema: no index; no key; remedy: add it; add a key"
        );
        let good = ExamineFinding::of_problems("schema", "as it should be", Vec::new());
        assert_eq!(good.to_string(), "ok: schema: as it should be");
        let one_of_several = good.at("db2:3306").to_string();
        assert_eq!(one_of_several, "db2:3306: ok: schema: as it should be");
    }
}
