//! What an event of the file system says of a file, and when to look at the file after it. Knows no file itself.

use std::time::Instant;

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};

use crate::limits::{WATCH_DEBOUNCE, WATCH_QUIET};

/// What was heard of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// It has its new content: its writer has closed it, or it came by another name.
    Settled,
    /// Somebody is writing it, and will say so by closing it.
    Writing,
    /// Something happened to it.
    Something,
}

impl Hint {
    /// Both, the later one last: as if it had been heard in one.
    pub(super) fn and(self, later: Self) -> Self {
        match later {
            Self::Settled | Self::Writing => later,
            Self::Something => self,
        }
    }

    /// What an event says of one of the names that were watched for. `is_directory`: of a directory that holds such names;
    /// `is_link`: whether the name is a link now.
    pub(super) fn of(
        kind: &EventKind,
        is_directory: bool,
        is_link: impl FnOnce() -> bool,
    ) -> Option<Self> {
        match kind {
            // Our own reading is among them.
            EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write) => None,
            // What a directory holds is heard of by its own name.
            EventKind::Access(_) if is_directory => None,
            EventKind::Access(_) => Some(Self::Settled),
            // The directory went, or is another one: where to listen has to be found out anew, at once.
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
            // Nobody closes a link or a directory after making it.
            EventKind::Create(CreateKind::Folder) => Some(Self::Settled),
            EventKind::Create(_) if is_link() => Some(Self::Settled),
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
                Some(Self::Writing)
            }
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => Some(Self::Something),
        }
    }
}

/// When to look at a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing was heard.
    Never,
    /// Soon: it has its new content.
    Settled(Instant),
    /// When it has been quiet for long: nobody said that it is whole.
    Quiet(Instant),
}

impl Due {
    /// After a hint at `now`.
    pub(super) fn after(self, hint: Hint, now: Instant) -> Self {
        match (self, hint) {
            (_, Hint::Settled) => Self::Settled(now + WATCH_DEBOUNCE),
            (Self::Settled(_), Hint::Something) => self,
            (_, Hint::Writing | Hint::Something) => Self::Quiet(now + WATCH_QUIET),
        }
    }

    /// When, if at all.
    pub(super) fn at(self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::Settled(at) | Self::Quiet(at) => Some(at),
        }
    }

    /// Whether it has come.
    pub(super) fn has_come(self, now: Instant) -> bool {
        self.at().is_some_and(|at| at <= now)
    }

    /// Whether the file has been left alone for so long that whatever it holds is what it is meant to hold.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Quiet(_))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{DataChange, MetadataKind, RemoveKind};

    use super::*;

    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CAME: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    const WENT: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    const REMOVED: EventKind = EventKind::Remove(RemoveKind::File);
    const MADE: EventKind = EventKind::Create(CreateKind::File);

    fn after(events: &[EventKind]) -> Option<Duration> {
        let now = Instant::now();
        let hints = events
            .iter()
            .filter_map(|kind| Hint::of(kind, false, || false));
        let due = hints.fold(Due::Never, |due, hint| due.after(hint, now));
        due.at().map(|at| at - now)
    }

    #[test]
    fn a_file_is_looked_at_soon_after_its_writer_has_closed_it() {
        assert_eq!(after(&[WRITTEN, WRITTEN, CLOSED]), Some(WATCH_DEBOUNCE));
        assert_eq!(after(&[MADE, WRITTEN, CLOSED]), Some(WATCH_DEBOUNCE));
    }

    #[test]
    fn a_file_that_came_by_rename_is_whole() {
        assert_eq!(after(&[CAME]), Some(WATCH_DEBOUNCE));
        assert_eq!(after(&[WENT, MADE, WRITTEN, CLOSED]), Some(WATCH_DEBOUNCE));
        assert_eq!(
            after(&[CAME, REMOVED]),
            Some(WATCH_DEBOUNCE),
            "a ConfigMap's old directory goes after the new one came"
        );
    }

    #[test]
    fn a_file_that_nobody_has_closed_is_left_alone() {
        for events in [
            &[WRITTEN][..],
            &[MADE, WRITTEN],
            &[CLOSED, WRITTEN],
            &[REMOVED],
            &[WENT],
        ] {
            assert_eq!(after(events), Some(WATCH_QUIET), "{events:?}");
        }
    }

    #[test]
    fn reading_says_nothing() {
        for access in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
        ] {
            assert_eq!(after(&[EventKind::Access(access)]), None);
        }
        let now = Instant::now();
        let settled = Due::Never.after(Hint::Settled, now);
        let later = now + WATCH_DEBOUNCE / 2;
        assert_eq!(settled.after(Hint::Something, later), settled);
        let rights = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        assert_eq!(after(&[rights]), Some(WATCH_QUIET));
    }

    #[test]
    fn links_and_directories_are_whole_when_they_are_made() {
        assert_eq!(Hint::of(&MADE, false, || true), Some(Hint::Settled));
        let folder = EventKind::Create(CreateKind::Folder);
        assert_eq!(Hint::of(&folder, false, || false), Some(Hint::Settled));
        for kind in [EventKind::Remove(RemoveKind::Folder), WENT, CAME] {
            assert_eq!(Hint::of(&kind, true, || false), Some(Hint::Settled));
        }
        assert_eq!(Hint::of(&WRITTEN, true, || false), None);
    }

    #[test]
    fn several_hints_at_once_are_as_good_as_one_by_one() {
        let all = [Hint::Settled, Hint::Writing, Hint::Something];
        let now = Instant::now();
        for one in all {
            for other in all {
                let at_once = Due::Never.after(one.and(other), now);
                let by_turns = Due::Never.after(one, now).after(other, now);
                assert_eq!(at_once, by_turns, "{one:?}, {other:?}");
            }
        }
    }
}
