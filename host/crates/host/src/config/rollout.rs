//! How new versions of a guest replace old ones: `probe`, `drain`, `[guest.NAME.canary]` and `[guest.NAME.rollback]`.

use std::time::Duration;

use crate::config_reader::Section;
use crate::config_reader::kinds::{Field, ValueError, boolean, count_in, duration, share, text};
use cloakroom_base::limits;
use cloakroom_runtime::{CLIENTS_MAX, Canary, FailureThresholds, Rollback, Rollout};

/// Longest window. Request counts are kept for this time.
const WINDOW_MAX: Duration = Duration::from_secs(3600);

/// Reads the rollout settings of `[guest.NAME]`.
pub(crate) fn read(section: &mut Section<'_>) -> Rollout {
    let default = Rollout::default();
    Rollout {
        probe: section.get("probe", probe),
        drain_max: section.get("drain", duration).unwrap_or(default.drain_max),
        canary: read_canary(section.section("canary")),
        rollback: read_rollback(section.section("rollback")),
    }
}

fn read_canary(mut section: Section<'_>) -> Option<Canary> {
    let duration = section.get("duration", duration);
    let share = section.get("share", share)?;
    Some(Canary {
        share,
        duration: duration.unwrap_or(limits::CANARY_DURATION),
    })
}

fn read_rollback(mut section: Section<'_>) -> Option<Rollback> {
    let default = Rollback::default();
    let FailureThresholds {
        window,
        requests_min,
        clients_min,
        errors_max,
        traps_max,
        deadline_misses_max,
    } = default.thresholds;
    let is_enabled = section.get("enabled", boolean).unwrap_or(true);
    let rollback = Rollback {
        probation: section
            .get("probation", duration)
            .unwrap_or(default.probation),
        thresholds: FailureThresholds {
            window: section.get("window", duration).unwrap_or(window),
            requests_min: section
                .get("requests", count_in(1, 1 << 20))
                .unwrap_or(requests_min),
            clients_min: section
                .get("clients", count_in(1, CLIENTS_MAX))
                .unwrap_or(clients_min),
            errors_max: section.get("errors", share).unwrap_or(errors_max),
            traps_max: section.get("traps", share).unwrap_or(traps_max),
            deadline_misses_max: section
                .get("deadline_misses", share)
                .unwrap_or(deadline_misses_max),
        },
    };
    let window = rollback.thresholds.window;
    if window.is_zero() || window > WINDOW_MAX {
        section.fault(
            "window",
            format!(
                "{} is not a valid window",
                humantime::format_duration(window)
            ),
            "write a duration above 0 and up to \"1h\"",
        );
    }
    is_enabled.then_some(rollback)
}

/// Reads a path and query with which new versions are probed.
fn probe(field: &Field<'_>) -> Result<String, ValueError> {
    let path = text(field)?;
    let is_target = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
    if is_target {
        Ok(path)
    } else {
        Err(ValueError::new(
            format!("{path:?} is not a valid path"),
            "write the path of a request, such as \"/health\"",
        ))
    }
}
