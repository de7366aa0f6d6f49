//! The jobs that wait for a worker, and the selection of the next batch. Knows no statements and no time.

use std::collections::{HashSet, VecDeque};

use super::dialect::BatchLimits;
use cloakroom_session::record::SessionId;

/// A job that can be batched.
pub(crate) trait Batchable {
    /// Returns the row that the job changes, if it changes one. Only one statement at a time may name that row.
    fn changed_row(&self) -> Option<&SessionId>;

    /// Returns whether other hosts write the same row. A statement takes at most one such job.
    fn is_contended(&self) -> bool;

    /// Returns whether the job can be in one statement with `first`.
    fn fits(&self, first: &Self) -> bool;

    /// Returns the number of bytes that the job adds to a statement.
    fn bytes(&self) -> usize;
}

/// The waiting jobs, each with an attached value, in order of arrival.
pub(crate) struct JobQueue<J, T> {
    waiting: VecDeque<WaitingJob<J, T>>,
    /// Rows that a running statement names. No other statement may name them.
    rows_in_use: HashSet<SessionId>,
    next_number: u64,
}

pub(crate) struct WaitingJob<J, T> {
    number: u64,
    pub(crate) job: J,
    pub(crate) attachment: T,
}

impl<J: Batchable, T> JobQueue<J, T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            rows_in_use: HashSet::new(),
            next_number: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Appends a job and returns the number with which [`JobQueue::withdraw`] removes it.
    pub(crate) fn push(&mut self, job: J, attachment: T) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push_back(WaitingJob {
            number,
            job,
            attachment,
        });
        number
    }

    /// Removes a waiting job. Returns false if it has already been taken.
    pub(crate) fn withdraw(&mut self, number: u64) -> bool {
        let index = (self.waiting).binary_search_by_key(&number, |waiting| waiting.number);
        index.is_ok_and(|index| self.waiting.remove(index).is_some())
    }

    /// Takes the job that has waited longest and all jobs that fit into one statement with it. Skips rows that a
    /// running statement names, never takes a row twice, and takes at most one contended row. The rows count as in use
    /// until each is [`JobQueue::release`]d.
    pub(crate) fn take(&mut self, limits: BatchLimits) -> Vec<WaitingJob<J, T>> {
        let mut taken: Vec<WaitingJob<J, T>> = Vec::new();
        let mut skipped = VecDeque::new();
        let (mut bytes, mut has_contended) = (0, false);
        while taken.len() < limits.rows_max
            && let Some(next) = self.waiting.pop_front()
        {
            let is_same_kind = taken.first().is_none_or(|first| next.job.fits(&first.job));
            let has_room = taken.is_empty() || bytes + next.job.bytes() <= limits.bytes_max;
            let is_permitted = !(has_contended && next.job.is_contended());
            let row = next.job.changed_row();
            if is_same_kind
                && has_room
                && is_permitted
                && row.is_none_or(|row| self.rows_in_use.insert(row.clone()))
            {
                bytes += next.job.bytes();
                has_contended |= next.job.is_contended();
                taken.push(next);
            } else {
                skipped.push_back(next);
            }
        }
        while let Some(first) = skipped.pop_back() {
            self.waiting.push_front(first);
        }
        taken
    }

    pub(crate) fn release(&mut self, row: &SessionId) {
        self.rows_in_use.remove(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job with a kind, a size and a row.
    struct TestJob(char, usize, Option<SessionId>);

    impl Batchable for TestJob {
        fn changed_row(&self) -> Option<&SessionId> {
            self.2.as_ref()
        }

        /// Jobs of the kind `x` are contended.
        fn is_contended(&self) -> bool {
            self.0 == 'x'
        }

        fn fits(&self, first: &Self) -> bool {
            self.0 == first.0 || self.is_contended() || first.is_contended()
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    const LIMITS: BatchLimits = BatchLimits {
        rows_max: 3,
        bytes_max: 100,
    };

    fn queue(jobs: impl IntoIterator<Item = TestJob>) -> JobQueue<TestJob, usize> {
        let mut queue = JobQueue::new();
        for (number, job) in jobs.into_iter().enumerate() {
            queue.push(job, number);
        }
        queue
    }

    fn taken(queue: &mut JobQueue<TestJob, usize>) -> Vec<usize> {
        queue
            .take(LIMITS)
            .iter()
            .map(|waiting| waiting.attachment)
            .collect()
    }

    #[test]
    fn a_batch_takes_the_oldest_job_and_later_jobs_of_its_kind_that_fit() {
        let kinds = [
            ('a', 60),
            ('b', 1),
            ('a', 50),
            ('a', 40),
            ('b', 1),
            ('b', 1),
            ('b', 1),
        ];
        let mut queue = queue(kinds.map(|(kind, bytes)| TestJob(kind, bytes, None)));
        assert_eq!(taken(&mut queue), [0, 3], "the third has no room");
        assert_eq!(taken(&mut queue), [1, 4, 5], "three at most");
        assert_eq!(taken(&mut queue), [2]);
        assert_eq!(taken(&mut queue), [6]);
        assert!(taken(&mut queue).is_empty());
    }

    #[test]
    fn a_job_larger_than_a_statement_is_a_batch_of_one() {
        let mut queue = queue([TestJob('a', 1_000, None), TestJob('a', 1, None)]);
        assert_eq!(taken(&mut queue), [0]);
        assert_eq!(taken(&mut queue), [1]);
    }

    #[test]
    fn a_batch_takes_at_most_one_contended_row() {
        let kinds = ['x', 'x', 'a', 'x', 'a'];
        let mut queue = queue(kinds.map(|kind| TestJob(kind, 1, None)));
        assert_eq!(taken(&mut queue), [0, 2, 4]);
        assert_eq!(taken(&mut queue), [1]);
        assert_eq!(taken(&mut queue), [3]);
    }

    #[test]
    fn a_row_is_in_one_batch_at_a_time() {
        let (one, other) = (SessionId::generate(), SessionId::generate());
        let job = |id: &SessionId| TestJob('a', 1, Some(id.clone()));
        let mut queue = queue([job(&one), job(&one), job(&other), job(&one)]);
        assert_eq!(taken(&mut queue), [0, 2]);
        assert!(taken(&mut queue).is_empty(), "the row is in use");
        queue.release(&one);
        assert_eq!(taken(&mut queue), [1]);
        queue.release(&one);
        assert_eq!(taken(&mut queue), [3]);
    }

    #[test]
    fn a_withdrawn_job_is_not_taken_and_a_taken_job_is_not_withdrawn() {
        let mut queue = queue([]);
        let numbers: Vec<_> = (0..4)
            .map(|n| queue.push(TestJob('a', 1, None), n))
            .collect();
        assert!(queue.withdraw(numbers[1]));
        assert!(!queue.withdraw(numbers[1]));
        assert_eq!(taken(&mut queue), [0, 2, 3]);
        assert!(!queue.withdraw(numbers[0]));
        assert_eq!(queue.len(), 0);
    }
}
