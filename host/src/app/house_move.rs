//! `cloakroom store copy` and `cloakroom store check`: opens the stores that were named, runs the passes, and says what came of them.

mod ends;
mod progress;

use std::fmt::Write as _;

use super::failure::{Failure, StartError};
use crate::clock::Clock;
use crate::config::{Environment, Fault, NamedStore, StoreWords};
use crate::store::copy::{CopyError, Copying, Differences, Gauge, Survey, Tally};
use crate::store::examine::{Finding, State};
use crate::telemetry::{self, counted};
use ends::{Source, Target, examine};

/// A call of `cloakroom store`.
pub enum StoreCall {
    /// `store copy`.
    Copy(CopyCall),
    /// `store check`.
    Check(StoreWords),
}

/// A call of `store copy`.
pub struct CopyCall {
    /// The source.
    pub from: StoreWords,
    /// The target.
    pub to: StoreWords,
    /// Whether it is the last pass, with the source closed to writes.
    pub is_final: bool,
    /// How many sessions of the target the last pass may delete, where that many are more than half of them.
    pub delete: Option<u64>,
}

/// What a call of `cloakroom store` has to say, for standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// Lines.
    pub text: String,
    /// Whether nothing is left to be done.
    pub is_good: bool,
}

/// What the passes of one run found.
struct Passes {
    tally: Tally,
    /// None where nothing was compared: without `--final`, or where the target is in use already.
    differences: Option<Differences>,
}

/// Does what was called for. Warnings and progress go to standard error.
///
/// # Errors
/// What the words have wrong, or that a store failed. Nothing of it shows a password.
///
/// Cancel safety: what a copy has written stays, and the next call goes on from there.
pub async fn call_store(
    call: StoreCall,
    environment: &dyn Environment,
) -> Result<StoreReport, StartError> {
    match call {
        StoreCall::Copy(call) => copy(&call, environment).await,
        StoreCall::Check(words) => check(&words, environment).await,
    }
}

async fn copy(call: &CopyCall, environment: &dyn Environment) -> Result<StoreReport, StartError> {
    let (from, to) = match (call.from.read(environment), call.to.read(environment)) {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => {
            let faults = [from.err(), to.err()].into_iter().flatten().flatten();
            return Err(StartError::AtFault(faults.collect()));
        }
    };
    warn(&from);
    warn(&to);
    if from.backend == to.backend {
        let problem = "--from and --to name the same store";
        return Err(Fault::new("--to", problem, "name another store").into());
    }
    let source = Source::open(&from.backend, call.from.flag, call.is_final).await?;
    let target = match Target::open(&to.backend, call.to.flag).await {
        Ok(target) => target,
        Err(error) => {
            source.close().await;
            return Err(error);
        }
    };
    let gauge = Gauge::default();
    let clock = Clock::system();
    let copying = Copying {
        source: source.scan(),
        target: target.scan(),
        writer: target.writer(),
        clock: &clock,
        gauge: &gauge,
    };
    let ran = progress::show_while(&gauge, run(&copying, call)).await;
    source.close().await;
    target.close().await;
    let passes = ran.map_err(StartError::Failed)?;
    Ok(report(&passes, call.is_final))
}

async fn run(copying: &Copying<'_>, call: &CopyCall) -> Result<Passes, Failure> {
    let survey = copying.survey(call.is_final).await?;
    permit(&survey, call.delete)?;
    let mut tally = Tally::default();
    copying.copy(&mut tally).await?;
    let mut differences = None;
    // Sessions that a host has made in the target would be deleted.
    if call.is_final && tally.newer == 0 {
        copying.remove(survey.alone, &mut tally).await?;
        differences = Some(copying.verify().await?);
    }
    Ok(Passes { tally, differences })
}

/// Refuses a copy that would undo what a host has done in the target, or delete what the source may never have had.
fn permit(survey: &Survey, delete: Option<u64>) -> Result<(), Failure> {
    let Survey {
        used,
        sessions,
        alone,
    } = survey;
    if *used > 0 {
        return Err(Failure {
            problem: format!(
                "{} {} newer in the target: a host already uses the target; nothing was written, since a copy would bring sessions \
                 back that have ended there",
                counted(*used, "session"),
                are(*used)
            ),
            remedy: "go on with the target; to copy anew, stop its hosts, then copy to an empty table or file"
                .to_owned(),
        });
    }
    if !survey.may_delete(delete) {
        return Err(Failure {
            problem: format!(
                "{alone} of the target's {} {} not in the source; if they ended there, run again with `--delete {alone}`",
                counted(*sessions, "session"),
                are(*alone)
            ),
            remedy: "nothing was written; where they did not end there, correct --from and --to, which may be exchanged"
                .to_owned(),
        });
    }
    Ok(())
}

fn report(passes: &Passes, is_final: bool) -> StoreReport {
    let tally = &passes.tally;
    let mut text = format!(
        "copied {}, replaced {}, moved the expiry of {}, deleted {}\n",
        tally.copied,
        tally.replaced,
        tally.extended,
        counted(tally.removed, "session")
    );
    // A String takes whatever is written.
    if let Some(reason) = &tally.refusal {
        let reason = telemetry::escape(reason);
        let _ = writeln!(
            text,
            "the target refused {}: {reason}; `cloakroom store check` on the target tells what helps",
            counted(tally.refused, "session")
        );
    }
    if tally.unusable > 0 {
        let _ = writeln!(
            text,
            "left out {} whose key is no session id: no cookie can name them",
            counted(tally.unusable, "row")
        );
    }
    let (is_verified, verdict) = verdict(passes);
    text += &verdict;
    StoreReport {
        text,
        is_good: tally.refused == 0 && (is_verified || !is_final),
    }
}

/// Whether the comparison found the same sessions in both stores, and the line that says so or why not.
fn verdict(passes: &Passes) -> (bool, String) {
    let newer = passes.tally.newer;
    let reason = match passes.differences {
        Some(Differences {
            equal,
            different: 0,
            extra: 0,
        }) => {
            let sessions = counted(equal, "session");
            let verified = format!(
                "verified: {sessions} {} the same in both stores\n",
                are(equal)
            );
            return (true, verified);
        }
        Some(Differences {
            different, extra, ..
        }) => format!(
            "{} {} and {extra} {} in the target alone: a host or an Express app still writes one of the stores, or the target refused \
             sessions; stop each of them, then call the command again with --final",
            counted(different, "session"),
            if different == 1 { "differs" } else { "differ" },
            are(extra)
        ),
        None if newer > 0 => format!(
            "{} {} newer in the target: a host serves from it already; what is newer is left as it is, and nothing was deleted; \
             stop the hosts of the target, or copy to an empty table",
            counted(newer, "session"),
            are(newer)
        ),
        None => "sessions that end in the source from now on are still in the target; stop each host and each Express app of the \
                 source, then call the command again with --final"
            .to_owned(),
    };
    (false, format!("not verified: {reason}\n"))
}

/// The verb after a number of things.
fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

async fn check(
    words: &StoreWords,
    environment: &dyn Environment,
) -> Result<StoreReport, StartError> {
    let named = words.read(environment).map_err(StartError::AtFault)?;
    warn(&named);
    let findings = examine(&named.backend, words.flag, &Clock::system()).await?;
    Ok(report_on(&findings))
}

fn report_on(findings: &[Finding]) -> StoreReport {
    let mut text = String::new();
    for finding in findings {
        text += &telemetry::escape(&finding.to_string());
        text.push('\n');
    }
    StoreReport {
        text,
        is_good: findings.iter().all(|finding| finding.state == State::Good),
    }
}

fn warn(named: &NamedStore) {
    for warning in &named.warnings {
        telemetry::say(&telemetry::escape(&format!("warning: {warning}")));
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        Self {
            problem: error.to_string(),
            remedy: "correct what the error names, then call the command again: it goes on with the sessions that are left"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tally: Tally, differences: Option<Differences>, is_final: bool) -> StoreReport {
        report(&Passes { tally, differences }, is_final)
    }

    #[test]
    fn a_copy_that_is_not_the_last_says_that_nothing_is_verified() {
        let tally = Tally {
            copied: 3,
            ..Tally::default()
        };
        let report = told(tally, None, false);
        assert!(report.is_good);
        assert!(report.text.starts_with("copied 3, "), "{}", report.text);
        assert!(report.text.contains("\nnot verified: "), "{}", report.text);
        assert!(report.text.contains("--final"), "{}", report.text);
    }

    #[test]
    fn only_equal_stores_are_verified() {
        let equal = Differences {
            equal: 7,
            ..Differences::default()
        };
        let report = told(Tally::default(), Some(equal), true);
        assert!(report.is_good);
        assert!(
            report.text.contains("\nverified: 7 sessions"),
            "{}",
            report.text
        );
        let extra = Differences { extra: 1, ..equal };
        let report = told(Tally::default(), Some(extra), true);
        assert!(!report.is_good);
        assert!(
            report
                .text
                .contains("0 sessions differ and 1 is in the target alone"),
            "{}",
            report.text
        );
    }

    #[test]
    fn a_copy_that_would_undo_or_delete_too_much_is_refused() {
        let alone = |alone, delete| {
            let survey = Survey {
                used: 0,
                sessions: 6,
                alone,
            };
            permit(&survey, delete).map_err(|failure| failure.problem)
        };
        assert_eq!(alone(3, None), Ok(()));
        assert_eq!(alone(6, Some(6)), Ok(()), "an empty source is one, too");
        for delete in [None, Some(3)] {
            let expected = "4 of the target's 6 sessions are not in the source; if they ended there, run again with `--delete 4`";
            assert_eq!(alone(4, delete).unwrap_err(), expected);
        }
        let used = Survey {
            used: 2,
            ..Survey::default()
        };
        let problem = permit(&used, None).unwrap_err().problem;
        assert!(
            problem.contains("a host already uses the target"),
            "{problem}"
        );
    }

    #[test]
    fn a_target_in_use_and_a_refusal_are_told() {
        let newer = Tally {
            newer: 2,
            ..Tally::default()
        };
        let report = told(newer, None, true);
        assert!(!report.is_good);
        assert!(
            report.text.contains("2 sessions are newer in the target"),
            "{}",
            report.text
        );
        let refused = Tally {
            refused: 1,
            refusal: Some("too large\nfor it".to_owned()),
            ..Tally::default()
        };
        let report = told(refused, None, false);
        assert!(!report.is_good);
        assert!(
            report.text.contains(r"too large\nfor it"),
            "{}",
            report.text
        );
    }

    #[test]
    fn a_finding_that_is_not_good_makes_the_report_so() {
        let fault = Finding::fault("schema", "no key", "add it");
        let report = report_on(&[fault]);
        assert_eq!(report.text, "fault: schema: no key; remedy: add it\n");
        assert!(!report.is_good);
    }
}
