//! Interpretation of a file-system event, and the time at which to check the file after it. This module accesses no
//! file.
//!
//! A file is checked 20 ms after its writer has closed it or another file was renamed over it. Without such an event it is
//! checked after 2 s of quiet, and a file that breaks off gets these 2 s as well.

use std::time::Instant;

use notify::EventKind;
use notify::event::{CreateKind, ModifyKind, RenameMode};

use cloakroom_base::limits::{WATCH_DEBOUNCE, WATCH_QUIET};

/// A change to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeHint {
    /// The file has its new content: its writer has closed it, or it was renamed to this name.
    Settled,
    /// The file is being written. Its writer will close it.
    Writing,
    /// Any other change.
    Something,
}

impl ChangeHint {
    /// Combines two hints as if they had been one event. `later` is the more recent one.
    pub(crate) fn and(self, later: Self) -> Self {
        match later {
            Self::Settled | Self::Writing => later,
            Self::Something => self,
        }
    }

    /// Returns the hint for an event about a watched path. The event is not a read. `is_directory` says that the path is a
    /// directory which contains watched names. `is_link` returns whether the path is a link now.
    pub(crate) fn of(
        kind: &EventKind,
        is_directory: bool,
        is_link: impl FnOnce() -> bool,
    ) -> Option<Self> {
        match kind {
            // Entries of the directory are reported by their own names.
            EventKind::Access(_) if is_directory => None,
            EventKind::Access(_) => Some(Self::Settled),
            // The directory was removed or replaced. Its watches must be renewed at once.
            EventKind::Remove(_)
            | EventKind::Create(_)
            | EventKind::Modify(ModifyKind::Name(_))
                if is_directory =>
            {
                Some(Self::Settled)
            }
            _ if is_directory => None,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                Some(Self::Something)
            }
            EventKind::Modify(ModifyKind::Name(_)) => Some(Self::Settled),
            // Links and directories are not closed after they are made.
            EventKind::Create(CreateKind::Folder) => Some(Self::Settled),
            EventKind::Create(_) if is_link() => Some(Self::Settled),
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
                Some(Self::Writing)
            }
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => Some(Self::Something),
        }
    }
}

/// When to check a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckTime {
    /// There is no hint.
    Never,
    /// Soon, because the file has its new content.
    Settled(Instant),
    /// When no change was reported for a longer time, because no event says that the file is complete.
    Quiet(Instant),
}

impl CheckTime {
    /// Returns the check time after a hint at `now`.
    pub(crate) fn after(self, hint: ChangeHint, now: Instant) -> Self {
        match (self, hint) {
            (_, ChangeHint::Settled) => Self::Settled(now + WATCH_DEBOUNCE),
            (Self::Settled(_), ChangeHint::Something) => self,
            (_, ChangeHint::Writing | ChangeHint::Something) => Self::Quiet(now + WATCH_QUIET),
        }
    }

    /// Returns the time of the check, if there is one.
    pub(crate) fn at(self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::Settled(at) | Self::Quiet(at) => Some(at),
        }
    }

    /// Returns whether the check is due.
    pub(crate) fn has_come(self, now: Instant) -> bool {
        self.at().is_some_and(|at| at <= now)
    }

    /// Returns whether the file has been unchanged for so long that its content is assumed to be complete.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Quiet(_))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{AccessKind, AccessMode, DataChange, MetadataKind, RemoveKind};

    use super::super::directory_watcher::is_read;
    use super::*;

    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const RENAMED_TO: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    const RENAMED_FROM: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    const REMOVED: EventKind = EventKind::Remove(RemoveKind::File);
    const MADE: EventKind = EventKind::Create(CreateKind::File);

    fn after(events: &[EventKind]) -> Option<Duration> {
        let now = Instant::now();
        let hints = events
            .iter()
            .filter(|kind| !is_read(kind))
            .filter_map(|kind| ChangeHint::of(kind, false, || false));
        let due = hints.fold(CheckTime::Never, |due, hint| due.after(hint, now));
        due.at().map(|at| at - now)
    }

    #[test]
    fn a_file_is_checked_soon_after_its_writer_has_closed_it() {
        assert_eq!(after(&[WRITTEN, WRITTEN, CLOSED]), Some(WATCH_DEBOUNCE));
        assert_eq!(after(&[MADE, WRITTEN, CLOSED]), Some(WATCH_DEBOUNCE));
    }

    #[test]
    fn a_file_that_came_by_rename_is_whole() {
        assert_eq!(after(&[RENAMED_TO]), Some(WATCH_DEBOUNCE));
        assert_eq!(
            after(&[RENAMED_FROM, MADE, WRITTEN, CLOSED]),
            Some(WATCH_DEBOUNCE)
        );
        assert_eq!(
            after(&[RENAMED_TO, REMOVED]),
            Some(WATCH_DEBOUNCE),
            "a ConfigMap's old directory goes after the new one came"
        );
    }

    #[test]
    fn a_file_that_was_not_closed_is_checked_only_after_the_quiet_time() {
        for events in [
            &[WRITTEN][..],
            &[MADE, WRITTEN],
            &[CLOSED, WRITTEN],
            &[REMOVED],
            &[RENAMED_FROM],
        ] {
            assert_eq!(after(events), Some(WATCH_QUIET), "{events:?}");
        }
    }

    #[test]
    fn a_read_access_causes_no_check() {
        for access in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
        ] {
            assert_eq!(after(&[EventKind::Access(access)]), None);
        }
        let now = Instant::now();
        let settled = CheckTime::Never.after(ChangeHint::Settled, now);
        let later = now + WATCH_DEBOUNCE / 2;
        assert_eq!(settled.after(ChangeHint::Something, later), settled);
        let change = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        assert_eq!(after(&[change]), Some(WATCH_QUIET));
    }

    #[test]
    fn links_and_directories_are_whole_when_they_are_made() {
        assert_eq!(
            ChangeHint::of(&MADE, false, || true),
            Some(ChangeHint::Settled)
        );
        let folder = EventKind::Create(CreateKind::Folder);
        assert_eq!(
            ChangeHint::of(&folder, false, || false),
            Some(ChangeHint::Settled)
        );
        for kind in [
            EventKind::Remove(RemoveKind::Folder),
            RENAMED_FROM,
            RENAMED_TO,
        ] {
            assert_eq!(
                ChangeHint::of(&kind, true, || false),
                Some(ChangeHint::Settled)
            );
        }
        assert_eq!(ChangeHint::of(&WRITTEN, true, || false), None);
    }

    #[test]
    fn combined_hints_have_the_same_effect_as_single_ones() {
        let all = [
            ChangeHint::Settled,
            ChangeHint::Writing,
            ChangeHint::Something,
        ];
        let now = Instant::now();
        for one in all {
            for other in all {
                let at_once = CheckTime::Never.after(one.and(other), now);
                let by_turns = CheckTime::Never.after(one, now).after(other, now);
                assert_eq!(at_once, by_turns, "{one:?}, {other:?}");
            }
        }
    }
}
