//! The background pool: threads with a higher niceness than the serving threads, for guests that have already computed
//! for a long time. An endless loop there uses processor time that no other thread wants, and about a tenth of it under
//! full load.
//!
//! A serving thread never waits for a thread of this pool, which may itself wait long for the processor.
//!
//! The pool orders tasks and knows which client they belong to, but not the work they do. It alternates between guests,
//! then between the clients of a guest, then between the connections of a client, then between the requests of a
//! connection. So a hundred endless loops of one guest slow the long computation of another guest no more than one loop
//! would, and a client that sends many requests at once delays only its own.
//!
//! A run moves here after it has computed for 4 ms, and continues in turns of about 1 ms. Until its response it takes turn after
//! turn by itself. From then on its request asks for each turn, so that written output is taken first. A run that waits for
//! something outside the guest earns a tenth of that time on the serving threads. The deadline stays with the request, which
//! answers whether or not the pool has reached the guest. Decision 10 in `host/docs/decisions` has the reasons.

use std::collections::{HashMap, VecDeque, hash_map::Entry};
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

use cloakroom_base::limits::BACKGROUND_NICENESS;
use cloakroom_base::quota::{ClientConnection, PeerKey};

/// A computation that advances in short turns.
pub(crate) trait BackgroundTask: Send + Sync {
    /// Runs one turn on a thread of the pool. Must not panic.
    fn take(self: Arc<Self>);
}

/// A pool of background threads. They end when the pool is dropped.
pub(crate) struct BackgroundPool {
    shared: Arc<BackgroundShared>,
    threads: Vec<Thread>,
    /// Sends values to the thread that drops them.
    dropped: mpsc::Sender<Box<dyn Send>>,
    /// Time that a run may compute before it moves here.
    pub(crate) after: Duration,
}

impl fmt::Debug for BackgroundPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundPool").finish_non_exhaustive()
    }
}

impl BackgroundPool {
    /// Starts one thread per processor, and one more that drops values. The latter has the caller's niceness.
    ///
    /// # Errors
    /// Returns an error if a thread cannot be started.
    pub(crate) fn start(after: Duration) -> std::io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(BackgroundShared {
            inboxes: (0..=count).map(|_| Mutex::default()).collect(),
            queue: Mutex::default(),
            is_idle: (0..count).map(|_| AtomicBool::new(false)).collect(),
            is_closed: AtomicBool::new(false),
        });
        let (dropped, values) = mpsc::channel::<Box<dyn Send>>();
        std::thread::Builder::new()
            .name("guest-drop".to_owned())
            .spawn(move || values.into_iter().for_each(drop))?;
        let mut pool = Self {
            shared,
            threads: Vec::new(),
            dropped,
            after,
        };
        for number in 0..count {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new()
                .name(format!("guest-bg-{number}"))
                .spawn(move || {
                    lower_priority();
                    while let Some(task) = shared.next(number) {
                        task.take();
                    }
                })?;
            pool.threads.push(thread.thread().clone());
        }
        Ok(pool)
    }

    /// Queues a task behind the other tasks of the same guest and connection. Never waits for a thread of the pool.
    pub(crate) fn push(
        &self,
        guest: &Arc<str>,
        source: ClientConnection,
        task: Arc<dyn BackgroundTask>,
    ) {
        self.shared.deliver((Arc::clone(guest), source, task));
        for (thread, is_idle) in self.threads.iter().zip(&self.shared.is_idle) {
            if is_idle.swap(false, SeqCst) {
                return thread.unpark();
            }
        }
    }
}

impl BackgroundPool {
    /// Drops a value on another thread. Dropping an instance returns it to the engine's pool, and may wait for a lock
    /// that a background thread holds.
    pub(crate) fn drop_aside(&self, value: impl Send + 'static) {
        // The receiving thread lives as long as this sender, so sending cannot fail.
        let _ = self.dropped.send(Box::new(value));
    }
}

impl Drop for BackgroundPool {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, SeqCst);
        for thread in &self.threads {
            thread.unpark();
        }
    }
}

/// Whether the runs of a guest usually end in the background pool. If so, its next runs start there and cost the
/// serving threads nothing.
#[derive(Debug, Default)]
pub(crate) struct SlowHistory(AtomicU8);

impl SlowHistory {
    /// The guest is slow once this many more runs moved to the background pool than finished quickly.
    const STEPS: u8 = 4;
    /// After this many quick runs, even the slowest history is forgotten.
    const STEPS_MAX: u8 = 8;

    pub(crate) fn is_slow(&self) -> bool {
        self.0.load(Relaxed) >= Self::STEPS
    }

    /// Notes a run that computed for so long that it moved to the background pool.
    pub(crate) fn record_slow(&self) {
        let worse = |steps: u8| (steps < Self::STEPS_MAX).then_some(steps + 1);
        let _ = self.0.fetch_update(Relaxed, Relaxed, worse);
    }

    /// Notes a run that finished before the threshold.
    pub(crate) fn record_quick(&self) {
        // Nearly all runs are quick. Skipping the write then avoids contention.
        if self.0.load(Relaxed) > 0 {
            let better = |steps: u8| steps.checked_sub(1);
            let _ = self.0.fetch_update(Relaxed, Relaxed, better);
        }
    }
}

/// Returns the processor time that the calling thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Raises the calling thread's niceness. Linux has a niceness per thread, and raising it needs no privilege.
fn lower_priority() {
    if let Err(error) = rustix::process::nice(BACKGROUND_NICENESS) {
        tracing::warn!(%error, "cannot lower the priority of a background thread: long computations may slow down other requests");
    }
}

type Delivery = (Arc<str>, ClientConnection, Arc<dyn BackgroundTask>);

/// The state that the pool's threads share, and the inboxes in which other threads put tasks for them.
struct BackgroundShared {
    /// There is one inbox more than there are threads in the pool. A descheduled thread holds at most one of them, so
    /// one is always free.
    inboxes: Vec<Mutex<Vec<Delivery>>>,
    queue: Mutex<BackgroundQueue>,
    /// For each thread, whether it sleeps or is about to.
    is_idle: Vec<AtomicBool>,
    is_closed: AtomicBool,
}

impl BackgroundShared {
    fn deliver(&self, delivery: Delivery) {
        loop {
            for inbox in &self.inboxes {
                if let Some(mut inbox) = inbox.try_lock() {
                    return inbox.push(delivery);
                }
            }
            std::thread::yield_now();
        }
    }

    /// Waits for a task. Returns `None` when the pool is closed.
    fn next(&self, thread: usize) -> Option<Arc<dyn BackgroundTask>> {
        loop {
            if let Some(task) = self.due() {
                return Some(task);
            }
            if self.is_closed.load(SeqCst) {
                return None;
            }
            self.is_idle[thread].store(true, SeqCst);
            // A task that was delivered before the flag was set woke no thread, so look again.
            let task = self.due();
            if task.is_none() && !self.is_closed.load(SeqCst) {
                std::thread::park();
            }
            self.is_idle[thread].store(false, SeqCst);
            if task.is_some() {
                return task;
            }
        }
    }

    fn due(&self) -> Option<Arc<dyn BackgroundTask>> {
        let mut queue = self.queue.lock();
        for inbox in &self.inboxes {
            // Each inbox has its own lock, and this thread never holds two of them.
            let delivered = std::mem::take(&mut *inbox.lock());
            for (guest, source, task) in delivered {
                queue.push(guest, source, task);
            }
        }
        queue.pop()
    }
}

/// Tasks in the order in which they run, by guest, client and connection.
#[derive(Default)]
struct BackgroundQueue(FairRotation<Arc<str>, OfGuest>);

type OfGuest = FairRotation<Option<PeerKey>, OfClient>;
type OfClient = FairRotation<u64, VecDeque<Arc<dyn BackgroundTask>>>;

impl BackgroundQueue {
    fn push(&mut self, guest: Arc<str>, source: ClientConnection, task: Arc<dyn BackgroundTask>) {
        let clients = self.0.of(guest);
        let queue = clients.of(source.peer).of(source.connection);
        queue.push_back(task);
    }

    fn pop(&mut self) -> Option<Arc<dyn BackgroundTask>> {
        self.0.take_next()
    }
}

/// Queues that are served in rotation, one task each per round. An empty queue leaves the rotation.
struct FairRotation<K, Q> {
    /// The keys of all queues, the next one first.
    order: VecDeque<K>,
    queues: HashMap<K, Q>,
}

/// A queue of tasks.
trait NextTask: Default {
    fn take_next(&mut self) -> Option<Arc<dyn BackgroundTask>>;
    fn is_empty(&self) -> bool;
}

impl NextTask for VecDeque<Arc<dyn BackgroundTask>> {
    fn take_next(&mut self) -> Option<Arc<dyn BackgroundTask>> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }
}

impl<K, Q> Default for FairRotation<K, Q> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            queues: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, Q: NextTask> FairRotation<K, Q> {
    /// Returns the queue of a key. The caller must add a task to it.
    fn of(&mut self, key: K) -> &mut Q {
        match self.queues.entry(key) {
            Entry::Occupied(queue) => queue.into_mut(),
            Entry::Vacant(new) => {
                self.order.push_back(new.key().clone());
                new.insert(Q::default())
            }
        }
    }
}

impl<K: Clone + Eq + Hash, Q: NextTask> NextTask for FairRotation<K, Q> {
    fn take_next(&mut self) -> Option<Arc<dyn BackgroundTask>> {
        let key = self.order.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let task = queue.take_next();
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        task
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str, mpsc::Sender<(&'static str, i32)>);

    impl BackgroundTask for Named {
        fn take(self: Arc<Self>) {
            let niceness = rustix::process::getpriority_process(None).unwrap();
            self.1.send((self.0, niceness)).unwrap();
        }
    }

    #[test]
    fn the_queue_is_round_robin_by_guest_then_client_then_connection() {
        let (sender, taken) = mpsc::channel();
        let mut queue = BackgroundQueue::default();
        let source = |peer: u8, connection| ClientConnection {
            peer: Some(PeerKey::of([10, 0, 0, peer].into())),
            connection,
        };
        let pushed = [
            ("a", source(1, 1), "a1"),
            ("a", source(1, 1), "a2"),
            ("a", source(1, 1), "a3"),
            ("a", source(1, 2), "a of the same client"),
            ("a", source(2, 3), "a of another client"),
            ("b", source(1, 1), "b1"),
        ];
        for (guest, source, name) in pushed {
            queue.push(guest.into(), source, Arc::new(Named(name, sender.clone())));
        }
        while let Some(task) = queue.pop() {
            task.take();
        }
        drop(sender);
        let order: Vec<_> = taken.iter().map(|(name, _)| name).collect();
        // The last sender was dropped with the last task.
        let others = ["a of another client", "a of the same client"];
        assert_eq!(order, ["a1", "b1", others[0], others[1], "a2", "a3"]);
        assert!(queue.0.order.is_empty() && queue.0.queues.is_empty());
    }

    #[test]
    fn several_runs_decide_whether_a_guest_counts_as_slow() {
        let slow_history = SlowHistory::default();
        slow_history.record_quick();
        for _ in 0..4 {
            assert!(!slow_history.is_slow());
            slow_history.record_slow();
        }
        assert!(slow_history.is_slow());
        slow_history.record_quick();
        assert!(!slow_history.is_slow());
        (0..100).for_each(|_| slow_history.record_slow());
        (0..5).for_each(|_| slow_history.record_quick());
        assert!(!slow_history.is_slow());
    }

    #[test]
    fn the_threads_of_the_background_pool_have_a_lower_priority() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let (sender, taken) = mpsc::channel();
        let pool = BackgroundPool::start(Duration::ZERO).unwrap();
        pool.push(
            &"a".into(),
            ClientConnection::default(),
            Arc::new(Named("a", sender)),
        );
        let (_, niceness) = taken.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(niceness, (own + BACKGROUND_NICENESS).min(19));
    }
}
