//! The jobs that wait for a worker, and the selection of the next batch. Knows no statements and no time.

use std::collections::{HashSet, VecDeque};

use cloakroom_session::record::SessionId;

/// A job that can be batched.
pub(crate) trait Batchable {
    /// Returns the row that the job changes, if it changes one. Only one statement at a time may name that row.
    fn swapped_row(&self) -> Option<&SessionId>;

    /// Returns whether other hosts write the same row. A statement takes at most one such job.
    fn is_contested(&self) -> bool;

    /// Returns whether the job can be in one statement with `first`.
    fn fits(&self, first: &Self) -> bool;

    /// Returns the number of bytes that the job adds to a statement.
    fn bytes(&self) -> usize;
}

/// The size limits of one statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) rows_max: usize,
    pub(crate) bytes_max: usize,
}

/// The waiting jobs, each with an attached value, in order of arrival.
pub(crate) struct JobQueue<J, T> {
    waiting: VecDeque<WaitingJob<J, T>>,
    /// Rows that a running statement names. No other statement may name them.
    under_way: HashSet<SessionId>,
    next_ticket: u64,
}

pub(crate) struct WaitingJob<J, T> {
    ticket: u64,
    pub(crate) job: J,
    pub(crate) with: T,
}

impl<J: Batchable, T> JobQueue<J, T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: HashSet::new(),
            next_ticket: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Appends a job and returns the number with which [`JobQueue::withdraw`] removes it.
    pub(crate) fn push(&mut self, job: J, with: T) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(WaitingJob { ticket, job, with });
        ticket
    }

    /// Removes a waiting job. Returns false if it has already been taken.
    pub(crate) fn withdraw(&mut self, ticket: u64) -> bool {
        let place = (self.waiting).binary_search_by_key(&ticket, |waiting| waiting.ticket);
        place.is_ok_and(|place| self.waiting.remove(place).is_some())
    }

    /// Takes the job that has waited longest and all jobs that fit into one statement with it. Skips rows that a
    /// running statement names, never takes a row twice, and takes at most one contended row. The rows count as in use
    /// until each is [`JobQueue::release`]d.
    pub(crate) fn take(&mut self, room: BatchLimits) -> Vec<WaitingJob<J, T>> {
        let mut taken: Vec<WaitingJob<J, T>> = Vec::new();
        let mut passed_over = VecDeque::new();
        let (mut bytes, mut has_contested) = (0, false);
        while taken.len() < room.rows_max
            && let Some(next) = self.waiting.pop_front()
        {
            let is_alike = taken.first().is_none_or(|first| next.job.fits(&first.job));
            let has_room = taken.is_empty() || bytes + next.job.bytes() <= room.bytes_max;
            let is_alone = !(has_contested && next.job.is_contested());
            let row = next.job.swapped_row();
            if is_alike
                && has_room
                && is_alone
                && row.is_none_or(|row| self.under_way.insert(row.clone()))
            {
                bytes += next.job.bytes();
                has_contested |= next.job.is_contested();
                taken.push(next);
            } else {
                passed_over.push_back(next);
            }
        }
        while let Some(first) = passed_over.pop_back() {
            self.waiting.push_front(first);
        }
        taken
    }

    pub(crate) fn release(&mut self, row: &SessionId) {
        self.under_way.remove(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job with a kind, a size and a row.
    struct Parcel(char, usize, Option<SessionId>);

    impl Batchable for Parcel {
        fn swapped_row(&self) -> Option<&SessionId> {
            self.2.as_ref()
        }

        /// Jobs of the kind `x` are contended.
        fn is_contested(&self) -> bool {
            self.0 == 'x'
        }

        fn fits(&self, first: &Self) -> bool {
            self.0 == first.0 || self.is_contested() || first.is_contested()
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    const ROOM: BatchLimits = BatchLimits {
        rows_max: 3,
        bytes_max: 100,
    };

    fn queue(parcels: impl IntoIterator<Item = Parcel>) -> JobQueue<Parcel, usize> {
        let mut queue = JobQueue::new();
        for (number, parcel) in parcels.into_iter().enumerate() {
            queue.push(parcel, number);
        }
        queue
    }

    fn taken(queue: &mut JobQueue<Parcel, usize>) -> Vec<usize> {
        queue.take(ROOM).iter().map(|w| w.with).collect()
    }

    #[test]
    fn who_waited_longest_goes_first_with_what_is_alike_and_has_room() {
        let kinds = [
            ('a', 60),
            ('b', 1),
            ('a', 50),
            ('a', 40),
            ('b', 1),
            ('b', 1),
            ('b', 1),
        ];
        let mut queue = queue(kinds.map(|(kind, bytes)| Parcel(kind, bytes, None)));
        assert_eq!(taken(&mut queue), [0, 3], "the third has no room");
        assert_eq!(taken(&mut queue), [1, 4, 5], "three at most");
        assert_eq!(taken(&mut queue), [2]);
        assert_eq!(taken(&mut queue), [6]);
        assert!(taken(&mut queue).is_empty());
    }

    #[test]
    fn what_is_larger_than_a_statement_takes_goes_alone() {
        let mut queue = queue([Parcel('a', 1_000, None), Parcel('a', 1, None)]);
        assert_eq!(taken(&mut queue), [0]);
        assert_eq!(taken(&mut queue), [1]);
    }

    #[test]
    fn contested_rows_travel_with_others_and_not_with_each_other() {
        let kinds = ['x', 'x', 'a', 'x', 'a'];
        let mut queue = queue(kinds.map(|kind| Parcel(kind, 1, None)));
        assert_eq!(taken(&mut queue), [0, 2, 4]);
        assert_eq!(taken(&mut queue), [1]);
        assert_eq!(taken(&mut queue), [3]);
    }

    #[test]
    fn a_row_is_under_way_once_at_a_time() {
        let (one, other) = (SessionId::generate(), SessionId::generate());
        let parcel = |id: &SessionId| Parcel('a', 1, Some(id.clone()));
        let mut queue = queue([parcel(&one), parcel(&one), parcel(&other), parcel(&one)]);
        assert_eq!(taken(&mut queue), [0, 2]);
        assert!(taken(&mut queue).is_empty(), "the row is under way");
        queue.release(&one);
        assert_eq!(taken(&mut queue), [1]);
        queue.release(&one);
        assert_eq!(taken(&mut queue), [3]);
    }

    #[test]
    fn who_is_taken_back_does_not_travel_and_who_travels_is_not_taken_back() {
        let mut queue = queue([]);
        let tickets: Vec<_> = (0..4)
            .map(|n| queue.push(Parcel('a', 1, None), n))
            .collect();
        assert!(queue.withdraw(tickets[1]));
        assert!(!queue.withdraw(tickets[1]));
        assert_eq!(taken(&mut queue), [0, 2, 3]);
        assert!(!queue.withdraw(tickets[0]));
        assert_eq!(queue.len(), 0);
    }
}
