//! `cloakroom store copy` and `cloakroom store check`: opens the given stores, runs the passes and reports the results.

mod progress;

use std::fmt::Write as _;

use crate::config::{ConfigFault, Environment, NamedStore, StoreOptions};
use crate::failure::{StartError, StartFailure};
use crate::stores::SourceWriters;
use cloakroom_base::clock::Clock;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::counted;
use cloakroom_session::store::copy::{
    CopyDifferences, CopyError, CopyProgress, CopySurvey, CopyTotals, StoreCopier,
};
use cloakroom_session::store::examine::{ExamineFinding, ExamineState};

/// A call of `cloakroom store`.
pub enum StoreCall {
    /// `store copy`.
    Copy(CopyCall),
    /// `store check`.
    Check(StoreOptions),
}

/// A call of `store copy`.
pub struct CopyCall {
    /// The source.
    pub from: StoreOptions,
    /// The target.
    pub to: StoreOptions,
    /// Whether this is the final pass, during which no host writes to the source.
    pub is_final: bool,
    /// How many sessions the final pass may delete in the target. Only needed if that is more than half of the target's
    /// sessions. Must be the exact number.
    pub delete: Option<u64>,
}

/// The result of a call of `cloakroom store`, printed to standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// The text, one or more lines.
    pub text: String,
    /// Whether nothing is left to do.
    pub is_good: bool,
}

/// The results of the passes of one run.
struct PassTotals {
    totals: CopyTotals,
    /// `None` if the stores were not compared: without `--final`, or if the target is already in use.
    differences: Option<CopyDifferences>,
}

/// Performs the call. Warnings and progress go to standard error.
///
/// # Errors
/// Returns the faults of the options, or the failure of a store. No error text contains a password.
///
/// Cancel safety: sessions that a copy has written stay in the target, and the next call continues from there.
pub async fn call_store(
    call: StoreCall,
    environment: &dyn Environment,
) -> Result<StoreReport, StartError> {
    match call {
        StoreCall::Copy(call) => copy(&call, environment).await,
        StoreCall::Check(options) => check(&options, environment).await,
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
    if *from.backend == *to.backend {
        let problem = "--from and --to name the same store";
        return Err(ConfigFault::new("--to", problem, "name another store").into());
    }
    let writers = match call.is_final {
        true => SourceWriters::Excluded,
        false => SourceWriters::Allowed,
    };
    let source = from.backend.open_source(call.from.flag, writers).await?;
    let target = match to.backend.open_target(call.to.flag).await {
        Ok(target) => target,
        Err(error) => {
            source.close().await;
            return Err(error);
        }
    };
    let gauge = CopyProgress::default();
    let clock = Clock::system();
    let writer = target.store.sessions();
    let copying = StoreCopier {
        source: &*source.scan,
        target: &*target.scan,
        writer: &*writer,
        clock: &clock,
        gauge: &gauge,
    };
    let ran = progress::show_while(&gauge, run(&copying, call)).await;
    // The store is closed when nothing refers to it any more.
    drop(writer);
    source.close().await;
    target.close().await;
    let passes = ran.map_err(StartError::Failed)?;
    Ok(report(&passes, call.is_final))
}

async fn run(copying: &StoreCopier<'_>, call: &CopyCall) -> Result<PassTotals, StartFailure> {
    let survey = copying.survey(call.is_final).await?;
    permit(&survey, call.delete)?;
    let mut totals = CopyTotals::default();
    copying.copy(&mut totals).await?;
    let mut differences = None;
    // If a host has already written to the target, this would delete the sessions that it created.
    if call.is_final && totals.newer == 0 {
        copying.remove(survey.alone, &mut totals).await?;
        differences = Some(copying.verify().await?);
    }
    Ok(PassTotals {
        totals,
        differences,
    })
}

/// Refuses a copy that would undo changes that a host made in the target, or delete sessions that the source may never have
/// had.
fn permit(survey: &CopySurvey, delete: Option<u64>) -> Result<(), StartFailure> {
    let CopySurvey {
        used,
        sessions,
        alone,
    } = survey;
    if *used > 0 {
        return Err(StartFailure {
            problem: format!(
                "{} {} newer in the target: a host already uses the target; nothing was written, because a copy would bring sessions \
                 back that have ended there",
                counted(*used, "session"),
                are(*used)
            ),
            remedy: "continue with the target; to copy again, stop its hosts, then copy to an empty table or file"
                .to_owned(),
        });
    }
    if !survey.may_delete(delete) {
        return Err(StartFailure {
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

fn report(passes: &PassTotals, is_final: bool) -> StoreReport {
    let totals = &passes.totals;
    let mut text = format!(
        "copied {}, replaced {}, moved the expiry of {}, deleted {}\n",
        totals.copied,
        totals.replaced,
        totals.extended,
        counted(totals.removed, "session")
    );
    // Writing to a `String` does not fail.
    if let Some(reason) = &totals.refusal {
        let reason = telemetry::escape(reason);
        let _ = writeln!(
            text,
            "the target refused {}: {reason}; `cloakroom store check` on the target shows the remedy",
            counted(totals.refused, "session")
        );
    }
    if totals.unusable > 0 {
        let _ = writeln!(
            text,
            "left out {} whose key is no session id: no cookie can name them",
            counted(totals.unusable, "row")
        );
    }
    let (is_verified, verdict) = verdict(passes);
    text += &verdict;
    StoreReport {
        text,
        is_good: totals.refused == 0 && (is_verified || !is_final),
    }
}

/// Returns whether the comparison found the same sessions in both stores, and a line that says so or gives the reason why not.
fn verdict(passes: &PassTotals) -> (bool, String) {
    let newer = passes.totals.newer;
    let reason = match passes.differences {
        Some(CopyDifferences {
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
        Some(CopyDifferences {
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
    options: &StoreOptions,
    environment: &dyn Environment,
) -> Result<StoreReport, StartError> {
    let named = options.read(environment).map_err(StartError::AtFault)?;
    warn(&named);
    let findings = named
        .backend
        .examine(options.flag, &Clock::system())
        .await?;
    Ok(report_on(&findings))
}

fn report_on(findings: &[ExamineFinding]) -> StoreReport {
    let mut text = String::new();
    for finding in findings {
        text += &telemetry::escape(&finding.to_string());
        text.push('\n');
    }
    StoreReport {
        text,
        is_good: findings
            .iter()
            .all(|finding| finding.state == ExamineState::Good),
    }
}

fn warn(named: &NamedStore) {
    for warning in &named.warnings {
        telemetry::print_stderr(&telemetry::escape(&format!("warning: {warning}")));
    }
}

impl From<CopyError> for StartFailure {
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

    fn report_of(
        totals: CopyTotals,
        differences: Option<CopyDifferences>,
        is_final: bool,
    ) -> StoreReport {
        report(
            &PassTotals {
                totals,
                differences,
            },
            is_final,
        )
    }

    #[test]
    fn a_copy_that_is_not_final_reports_that_nothing_is_verified() {
        let totals = CopyTotals {
            copied: 3,
            ..CopyTotals::default()
        };
        let report = report_of(totals, None, false);
        assert!(report.is_good);
        assert!(report.text.starts_with("copied 3, "), "{}", report.text);
        assert!(report.text.contains("\nnot verified: "), "{}", report.text);
        assert!(report.text.contains("--final"), "{}", report.text);
    }

    #[test]
    fn only_equal_stores_are_verified() {
        let equal = CopyDifferences {
            equal: 7,
            ..CopyDifferences::default()
        };
        let report = report_of(CopyTotals::default(), Some(equal), true);
        assert!(report.is_good);
        assert!(
            report.text.contains("\nverified: 7 sessions"),
            "{}",
            report.text
        );
        let extra = CopyDifferences { extra: 1, ..equal };
        let report = report_of(CopyTotals::default(), Some(extra), true);
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
            let survey = CopySurvey {
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
        let used = CopySurvey {
            used: 2,
            ..CopySurvey::default()
        };
        let problem = permit(&used, None).unwrap_err().problem;
        assert!(
            problem.contains("a host already uses the target"),
            "{problem}"
        );
    }

    #[test]
    fn newer_and_refused_sessions_are_reported_and_fail_the_copy() {
        let newer = CopyTotals {
            newer: 2,
            ..CopyTotals::default()
        };
        let report = report_of(newer, None, true);
        assert!(!report.is_good);
        assert!(
            report.text.contains("2 sessions are newer in the target"),
            "{}",
            report.text
        );
        let refused = CopyTotals {
            refused: 1,
            refusal: Some("too large\nfor it".to_owned()),
            ..CopyTotals::default()
        };
        let report = report_of(refused, None, false);
        assert!(!report.is_good);
        assert!(
            report.text.contains(r"too large\nfor it"),
            "{}",
            report.text
        );
    }

    #[test]
    fn a_report_with_a_fault_is_not_good() {
        let fault = ExamineFinding::fault("schema", "no key", "add it");
        let report = report_on(&[fault]);
        assert_eq!(report.text, "fault: schema: no key; remedy: add it\n");
        assert!(!report.is_good);
    }
}
