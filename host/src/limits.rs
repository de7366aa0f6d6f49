//! Every number that bounds something, with its unit and its reason. Options carry these as defaults; nothing else invents one.

use std::time::Duration;

/// Longest time from a request's head to its answer's release, re-runs included.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Longest time in which a new guest must have started once, if its own deadline is not shorter.
pub const ADMISSION_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time for compiling one component. An interpreter takes 10 s on a busy machine.
pub const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
/// Most memory that compiling one component may take, in bytes. An interpreter takes 500 MiB.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Components compiled at once: each uses all processors by itself, and takes its memory.
pub const COMPILES_AT_ONCE_MAX: usize = 2;
/// Files of compiled code that are kept.
pub const CODE_FILES_MAX: usize = 256;
/// Bytes of compiled code that are kept.
pub const CODE_BYTES_MAX: u64 = 2 << 30;
/// Largest linear memory of one guest instance, in bytes.
pub const MEMORY_BYTES_MAX: usize = 128 << 20;
/// Largest request body a guest may be sent, in bytes.
pub const REQUEST_BODY_BYTES_MAX: u64 = 10 << 20;
/// Largest part of a request body that is kept so that the guest can be run again, in bytes.
pub const REPLAY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a response body that are held until the session is committed; a longer body is released here.
pub const RELEASE_BYTES: usize = 64 << 10;
/// Largest session, as the JSON text in its row, in bytes.
pub const SESSION_BYTES_MAX: usize = 64 << 10;
/// Most keys of one session.
pub const SESSION_KEYS_MAX: usize = 256;
/// Longest key of a session, in bytes of UTF-8.
pub const SESSION_KEY_BYTES_MAX: usize = 256;
/// Deepest nesting of a value a guest may set: Node's `JSON.stringify` recurses, and must survive our rows.
pub const SESSION_VALUE_DEPTH_MAX: usize = 128;
/// Largest cookie that a guest may write, in bytes: its name and its value as they are sent. Browsers drop larger ones without a word.
pub const COOKIE_BYTES_MAX: usize = 4096;
/// Longest time that browsers keep a cookie (RFC 6265bis, section 5.5).
pub const COOKIE_AGE_MAX: Duration = Duration::from_hours(400 * 24);
/// Most sessions that the valid cookies of one request may name so that the store is asked which of them exist: browsers keep one
/// cookie of a name for each domain and path.
pub const SESSION_IDS_MAX: usize = 4;
/// Most `Set-Cookie` fields of the session's name in one answer. Only the answer to a request with several valid cookies has more
/// than one.
pub const SESSION_SET_COOKIES_MAX: usize = 16;
/// Largest file that a secret is read from, in bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;
/// Largest configuration file, and largest file of certificates, in bytes.
pub const CONFIG_FILE_BYTES_MAX: u64 = 4 << 20;
/// Lines a minute that tell what a guest was denied, for each kind of grant; what is left out is counted.
pub const DENIAL_LINES_MAX: u32 = 10;
/// Most changes that a request's log keeps so that they can be applied to a newer row; with more, it is run again instead.
pub const SESSION_LOG_OPS_MAX: usize = 1024;
/// Most bytes of such a log.
pub const SESSION_LOG_BYTES_MAX: usize = 256 << 10;
/// How long an answer whose guest made no session call waits for the row it was to touch, when the store is slow.
pub const UNUSED_LOAD_WAIT_MAX: Duration = Duration::from_millis(250);
/// Largest request head we read, in bytes. Common servers allow about 8 KiB per line; several long cookies need room.
pub const REQUEST_HEAD_BYTES_MAX: usize = 32 << 10;
/// Most header fields of a request.
pub const REQUEST_HEADERS_MAX: usize = 100;
/// Longest request target (path and query), in bytes.
pub const REQUEST_TARGET_BYTES_MAX: usize = 16 << 10;
/// Longest host that a client or a guest may name, in characters, without its port: a name of DNS has 253, and may end in a dot.
pub const HOST_CHARS_MAX: usize = 255;
/// Longest label of such a host: DNS has no longer one (RFC 1035, section 2.3.4). Parsing a label of IDNA takes a time that grows
/// with the square of its length.
pub const HOST_LABEL_CHARS_MAX: usize = 63;
/// Longest request method, in bytes: the longest of the registry has 17 (UPDATEREDIRECTREF).
pub const REQUEST_METHOD_BYTES_MAX: usize = 32;
/// Connections at once. A further one takes the place of one without a request, or is closed.
pub const CONNECTIONS_MAX: u64 = 4096;
/// Requests under way at once: as many as connections, so that it is HTTP/2's many streams that it bounds.
pub const REQUESTS_MAX: u64 = 4096;
/// Bytes of request bodies that are kept before their guests run, and for another run of them, over all clients.
pub const WAITING_BODIES_BYTES_MAX: u64 = 256 << 20;
/// Bytes of answers that clients have not taken, over all clients.
pub const UNTAKEN_BYTES_MAX: u64 = 256 << 20;
/// Bytes of answers that the client of one HTTP/2 connection has not taken. Over it an answer that has stalled is cut. As many
/// answers as a connection has streams, each as long as what is held until its commit, take half of it.
pub const UNTAKEN_CONNECTION_BYTES_MAX: u64 = 16 << 20;
/// What an answer is charged for besides its bytes: its stream in the protocol and its task.
pub const UNTAKEN_ANSWER_BYTES: u64 = 12 << 10;
/// What the head of an answer, or its trailers, are charged for besides their fields while they wait for a blocked socket.
pub const UNTAKEN_HEAD_BYTES: u64 = 1 << 10;
/// Largest head of a guest's answer, in bytes: its fields' names and values, and 32 for each field. A client with as large a buffer
/// as ours takes it. Protocols keep a head until the client's socket takes it.
pub const RESPONSE_HEAD_BYTES_MAX: u64 = 32 << 10;
/// Most fields of one message's trailers; those of a message with more are dropped as a whole, as any recipient may (RFC 9110,
/// section 6.5.1).
pub const TRAILER_FIELDS_MAX: usize = 32;
/// The same in bytes of names and values.
pub const TRAILER_BYTES_MAX: usize = 8 << 10;
/// How long a client has to leave an answer untouched before it may be cut for its connection's bound alone. Also how long bytes
/// have to be left before they give way to any client, however little their own one holds.
pub const UNTAKEN_STALL_MIN: Duration = Duration::from_secs(5);
/// Bytes of one HTTP/2 connection that may wait in its buffers behind streams that have ended.
pub const UNTAKEN_LET_GO_BYTES_MAX: u64 = 16 << 10;
/// The same in answers.
pub const UNTAKEN_LET_GO_ANSWERS_MAX: u64 = 8;
/// Largest piece of an answer that HTTP/2 is given at once: what a client takes shows in as many bytes, as its frames do.
pub const HTTP2_PIECE_BYTES_MAX: usize = 16 << 10;
/// Longest answer of HTTP/1 that is not counted among the untaken: a connection has one, and buffers of this size anyway.
pub const HTTP1_UNCOUNTED_BYTES_MAX: u64 = 16 << 10;
/// How long it is remembered that nothing of a total gives way: refusals within it cost no search, and what begins to be
/// revocable meanwhile without a sign is found after it.
pub const QUOTA_BARREN: Duration = Duration::from_millis(5);
/// Time between two looks for room for a connection that was accepted while no other could give way to it.
pub const CONNECTION_RETRY: Duration = Duration::from_millis(10);
/// How long such a connection waits, if its client has no other one, before it is closed.
pub const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a client may send nothing of a request's body before its rate counts.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Slowest that a client may send a request's body after that, in bytes a second: a fifth of the slowest mobile line.
pub const BODY_BYTES_PER_S_MIN: u64 = 1 << 10;
/// How long in all a run may wait for its client before it can lose its instance to requests that wait for one.
pub const CLIENT_WAIT_FREE: Duration = Duration::from_secs(1);
/// Time between two looks at the clients of a gate at which requests wait.
pub const CLIENT_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes a second of a client that may keep the only instance of a guest while requests wait for it.
pub const CLIENT_RATE_FAIR: u64 = 64 << 10;
/// Bytes of a released answer that are taken from its guest before its client asks for them: most guests are done then.
pub const READ_AHEAD_BYTES: usize = 256 << 10;
/// Slowest that a client may take an answer's body, in bytes a second, once it has used up the idle
/// time-out: far below any line, far above a client that holds a guest with a byte now and then.
pub const TRANSFER_BYTES_PER_S_MIN: u64 = 240;
/// Bytes that pieces of a request's body (chunks, DATA frames) have on average at least, once the free ones are used up.
pub const BODY_PIECE_BYTES_MIN: u64 = 32;
/// Pieces below that average that a body may have: each costs about as much as a small request, whatever its size.
pub const BODY_PIECES_FREE: u64 = 1024;
/// The same for each second: far more than anybody types.
pub const BODY_PIECES_PER_S_FREE: u64 = 100;
/// Pieces are joined up to this size.
pub const BODY_PIECE_JOINED_BYTES: usize = 16 << 10;
/// How long the pieces of a body that has many tiny ones wait for more.
pub const BODY_PIECE_JOIN_WAIT: Duration = Duration::from_millis(1);
/// What is read of a request's body that nobody wants, in bytes, and for how long, so that its sender reads the answer.
pub const REQUEST_DISCARD_BYTES_MAX: usize = 4 << 20;
/// See [`REQUEST_DISCARD_BYTES_MAX`].
pub const REQUEST_DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for a request's head to arrive: a slow one holds a connection and nothing else.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time a connection stays open without a request; longer than the usual 60 s of a proxy in front.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest time for requests under way to finish after a signal to stop.
pub const GRACE: Duration = Duration::from_secs(30);
/// How much longer than its grace a host may take to its end before it is ended: the store settles, the admin interface ends.
pub const END_AFTER_GRACE_MAX: Duration = Duration::from_secs(15);
/// Smallest buffer for a request's head that the HTTP/1 parser takes, in bytes.
pub const REQUEST_HEAD_BYTES_MIN: usize = 8 << 10;
/// Shortest and longest wait after a connection could not be accepted (out of file descriptors, mostly).
pub const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(10);
/// See [`ACCEPT_BACKOFF_MIN`].
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Requests at once on one HTTP/2 connection; the RFC asks for at least 100.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// Silence after which an HTTP/2 client is asked whether it is there.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// Longest wait for its answer.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one request's body that an HTTP/2 client may send before the guest reads them. They are in no total, since they are
/// bounded by the requests: with as many as there may be, 256 MiB. hyper raises no window for a body that is read.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// The same over all requests of a connection. A client over a long line sends so much in each round trip.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of one answer that are buffered for a slow HTTP/2 client.
pub const HTTP2_SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Streams that an HTTP/2 client may have reset before it loses its connection.
pub const HTTP2_RESETS_PENDING_MAX: usize = 32;
/// Guest instances at once, over all guests of one engine: room for three guests at their limit and many below it.
pub const INSTANCES_MAX: usize = 1000;
/// Requests that may wait for an instance of an engine, with their own guest's leave.
pub const INSTANCE_WAITERS_MAX: usize = 1024;
/// Longest wait for an instance.
pub const INSTANCE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Instances of one guest at once: a quarter of the engine's, so that one guest alone cannot take them all.
pub const GUEST_INSTANCES_MAX: usize = 256;
/// Requests that may wait for an instance of one guest.
pub const GUEST_WAITERS_MAX: usize = 1024;
/// Instance slots of an engine that stay warm (with memory of their own) after a burst.
pub const WARM_INSTANCES_MAX: u32 = 256;
/// Instances of an engine that may wait for another request, of guests that are reused: as many as answers that are being
/// committed at once on a busy host. Each keeps its memory.
pub const PARKED_INSTANCES_MAX: usize = 64;
/// Longest time that such an instance waits: long enough to outlast a lull, short enough that a burst's memory comes back.
pub const PARKED_IDLE_MAX: Duration = Duration::from_secs(60);
/// Requests that a guest may send to other servers for one of its own.
pub const OUTBOUND_CALLS_MAX: u32 = 64;
/// Outgoing connections of one guest at once, those without a request among them.
pub const GUEST_OUTBOUND_CONNECTIONS_MAX: usize = 64;
/// Outgoing connections of all guests at once: eight guests at their limit.
pub const OUTBOUND_CONNECTIONS_MAX: usize = 512;
/// Longest wait for one of them of a call that has no connect time-out of its own: enough for a short burst, and far below a guest's
/// deadline.
pub const OUTBOUND_WAIT_MAX: Duration = Duration::from_secs(2);
/// Calls of one guest that may wait so at its own bound: as many as it has instances. Those that wait at the host's bound alone count
/// against the guest's connections.
pub const OUTBOUND_WAITERS_MAX: usize = 256;
/// How long an outgoing connection waits for another request. Node.js closes its end after 5 s: a request that meets that is lost.
pub const OUTBOUND_IDLE_MAX: Duration = Duration::from_secs(4);
/// Largest head of an answer to a guest's request, and buffer for its body, in bytes.
pub const OUTBOUND_HEAD_BYTES_MAX: usize = 64 << 10;
/// Names that are looked up at once for all guests. The system's resolver has a thread and a few descriptors for each, and gives up
/// by its own time-outs alone.
pub const LOOKUPS_MAX: usize = 32;
/// Of these, the most for one guest.
pub const GUEST_LOOKUPS_MAX: usize = 8;
/// Longest time that `cloakroom check` waits for the addresses of the granted names.
pub const CHECK_LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a run may compute on the threads that serve before it goes on in the slow lane. Nearly every handler is done by
/// then, and a hundred endless loops at once take two cores for a fifth of a second in all.
pub const LANE_THRESHOLD: Duration = Duration::from_millis(4);
/// How much nicer the slow lane's threads are than the others: beside one that wants to run, such a thread gets a tenth.
pub const LANE_NICENESS: i32 = 10;
/// Requests that may wait for one session's slot in this process.
pub const SLOT_WAITERS_MAX: usize = 64;
/// What is remembered of sessions between their visits, in bytes: some ten thousand usual ones.
pub const SNAPSHOTS_BYTES_MAX: usize = 16 << 20;
/// How long a guest may run on a snapshot before the store is asked beside it.
pub const SNAPSHOT_UNASKED_MAX: Duration = Duration::from_millis(5);
/// A visit that took longer than this and finds its session gone may have come before the end: it starts no new one.
pub const UNKNOWN_END_MAX: Duration = Duration::from_millis(100);
/// Re-runs of one request before it starts to wait (with jitter) between attempts.
pub const EAGER_RERUNS_MAX: u32 = 3;
/// Longest silence of a released response body. Event streams commonly send a comment every 15 to 30 s.
pub const STREAM_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Log lines (stdout and stderr together) kept of one run of a guest.
pub const LOG_LINES_MAX: usize = 1000;
/// Longest log line of a guest, in bytes; longer ones are cut.
pub const LOG_LINE_BYTES_MAX: usize = 4 << 10;
/// Bytes of log lines kept of one run of a guest.
pub const LOG_BYTES_MAX: usize = 256 << 10;
/// Bytes that the runs of one guest may log in a second, all together: ten thousand short lines.
pub const LOG_BYTES_PER_S_MAX: usize = 1 << 20;
/// Most rows that one store statement names.
pub const STORE_BATCH_ROWS_MAX: usize = 128;
/// Most bytes of session data that one store statement writes: well below what servers take as one packet.
pub const STORE_BATCH_BYTES_MAX: usize = 1 << 20;
/// Statements at a time that carry commits to a database, and as many that carry reads; what comes meanwhile waits and travels
/// together. Measured with 32 requests in flight: three give as many answers as six, with a quarter less work for the server.
pub const STORE_LANES: usize = 3;
/// Time without an answer after which a statement does not keep its lane: it waits for a row that somebody else has locked,
/// or for a host that is gone, and what comes next must not wait with it.
pub const STORE_LANE_STALL: Duration = Duration::from_millis(100);
/// Commits that may wait for a lane to a database, and as many reads.
pub const STORE_QUEUE_ROWS_MAX: usize = 4096;
/// Connections of the pool to each database host; express-mysql-session's mysql2 pool has as many.
pub const STORE_CONNECTIONS_MAX: usize = 10;
/// Longest time to connect and log in to a database.
pub const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for one statement. Short of the deadline, so that a commit whose reply was lost can still be decided.
pub const STORE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a free connection of the pool.
pub const STORE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a session without a cookie expiry lives after its last use; express-mysql-session's `expiration`.
pub const SESSION_EXPIRATION: Duration = Duration::from_secs(24 * 3600);
/// Time between two runs of the reaper; express-mysql-session's `checkExpirationInterval`.
pub const CHECK_EXPIRATION_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Rows that the reaper deletes per statement: so few that nobody waits for long behind it.
pub const REAP_BATCH_ROWS_MAX: usize = 64;
/// How long the reaper leaves the store alone between two statements, as a multiple of what the last one took.
pub const REAP_PAUSE_FACTOR: u32 = 3;
/// Longest id a row may have: the column is `varchar(128)`.
pub const SESSION_ID_BYTES_MAX: usize = 128;
/// What `Retry-After` says on our own 503s, in seconds.
pub const RETRY_AFTER_S: u32 = 1;
/// Longest that a call on the embedded database may take, the wait for its turn included.
pub const SQLITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls that may wait for the embedded database's writer, and as many for its readers.
pub const SQLITE_QUEUE_CALLS_MAX: usize = 4096;
/// Rows after which the embedded database's writer closes a transaction although more are waiting.
pub const SQLITE_TRANSACTION_ROWS_MAX: usize = 256;
/// Size to which the write-ahead log is grown at start: overwriting allocated blocks is many times faster than appending.
pub const SQLITE_WAL_BYTES: u64 = 16 << 20;
/// Pages in the write-ahead log after which they are copied into the database: a quarter of the grown log, so that
/// it is used from its start again before it has to grow.
pub const SQLITE_CHECKPOINT_PAGES: i64 = 1000;
/// Longest write-ahead log, as a multiple of the grown one. A log that a reader keeps longer is told, and one that was copied is
/// shortened to this: far more than one transaction adds, so that a usual log keeps its blocks.
pub const SQLITE_WAL_GROWTH_MAX: u64 = 4;
/// Longest time between two looks at the embedded database's files, whether or not anything is written.
pub const SQLITE_WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a failed call after which a store that failed is said to answer again. It doubles when the store fails anew within
/// [`STORE_CALM_MAX`], so that a store which fails now and then fills no log.
pub const STORE_CALM_MIN: Duration = Duration::from_secs(1);
/// Longest such time.
pub const STORE_CALM_MAX: Duration = Duration::from_secs(60);
/// Sessions that a copy of a store takes at once: a page of the largest ones takes 16 MiB of memory for each end.
pub const COPY_PAGE_ROWS: usize = 256;
/// How often a copy tries one page before it gives up, and the wait in between: the fail-over of a cluster takes some seconds.
pub const COPY_ATTEMPTS_MAX: u32 = 20;
/// See [`COPY_ATTEMPTS_MAX`].
pub const COPY_RETRY_WAIT: Duration = Duration::from_millis(500);
/// Longest time for one statement of a copy: no visitor waits for it.
pub const COPY_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two lines that tell how far a copy is, where there is no terminal.
pub const COPY_PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Reads by which `cloakroom store check` measures the latency.
pub const CHECK_LATENCY_READS: usize = 16;
/// Median of a round trip to MySQL above which the check warns: the limit of one data centre, roughly.
pub const MYSQL_CHECK_LATENCY_WARN: Duration = Duration::from_millis(5);
/// Median of a read of the embedded store above which the check warns: no local disk is as slow.
pub const SQLITE_CHECK_LATENCY_WARN: Duration = Duration::from_millis(50);
/// Difference of two clocks above which the check warns: rows expire by whole seconds.
pub const CHECK_CLOCK_SKEW_WARN: Duration = Duration::from_secs(2);
/// Longest wait after the start before expired rows are deleted for the first time.
pub const REAP_FIRST_DELAY_MAX: Duration = Duration::from_secs(5);
/// Wait after the reaper's first failure; it doubles with each further one, up to the interval.
pub const REAP_RETRY_DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest time for the requests of a guest's old version to end before they are cut: long enough for a download, short
/// enough that an event stream, whose client connects again, does not keep old code for hours.
pub const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How long a new version of a guest may still be taken back by itself.
pub const ROLLBACK_PROBATION: Duration = Duration::from_secs(600);
/// What a version is judged by: the last so much.
pub const ROLLBACK_WINDOW: Duration = Duration::from_secs(10);
/// Fewer requests than this within the window prove nothing.
pub const ROLLBACK_REQUESTS_MIN: u32 = 20;
/// Failures of fewer clients than this prove nothing where the good requests come from as many.
pub const ROLLBACK_CLIENTS_MIN: usize = 3;
/// Largest share of failures of one kind before a new version is taken back.
pub const ROLLBACK_SHARE_MAX: f64 = 0.2;
/// How long a canary serves its share of the visitors before it serves all.
pub const CANARY_DURATION: Duration = Duration::from_secs(300);

/// Time without a further event before a component's file is looked at whose writer has closed it: editors and copiers do
/// several things in a row.
pub const WATCH_DEBOUNCE: Duration = Duration::from_millis(20);
/// Time without a change before a component's file is looked at of which nobody said that it is whole; and time between two
/// looks at its stamp, for file systems that tell of nothing.
pub const WATCH_QUIET: Duration = Duration::from_secs(2);
/// How long a host that stops answers what comes on connections that are open: long enough for a busy client's next request,
/// whose answer tells it to close.
pub const FAREWELL: Duration = Duration::from_millis(500);

/// Connections at once to the admin interface: some operators and their monitoring.
pub const ADMIN_CONNECTIONS_MAX: u64 = 64;
/// Components from the admin interface that are compiled or tried at once.
pub const ADMIN_UPLOADS_MAX: usize = 2;
/// Components that the admin interface holds in memory, those that arrive included, if each is as large as one can be.
pub const ADMIN_UPLOADS_HELD_MAX: u64 = 4;
/// Longest time for a component to arrive.
pub const ADMIN_UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// What is read of a component that is refused before it is wanted, in bytes, and for how long, so that its sender reads why.
pub const ADMIN_DISCARD_BYTES_MAX: usize = 1 << 20;
/// See [`ADMIN_DISCARD_BYTES_MAX`].
pub const ADMIN_DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for admin calls under way to finish when the host has stopped.
pub const ADMIN_GRACE: Duration = Duration::from_secs(2);
/// Longest time for `cloakroom guests` to reach its host, and for the whole answer: an interpreter takes minutes to compile
/// on a slow machine.
pub const ADMIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// See [`ADMIN_CONNECT_TIMEOUT`].
pub const ADMIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(900);

// `cloakroom test`.
/// Hosts that the tests of a guest run at once. Each holds a port and little else; a test that forgets to end its hosts is told.
pub const TRIAL_HOSTS_MAX: usize = 256;
/// Rivals that wait for a commit of one host's.
pub const TRIAL_RIVALS_MAX: usize = 1024;
/// Connections to the control interface at once: a test runner may run many tests side by side.
pub const TRIAL_CONNECTIONS_MAX: u64 = 256;
/// Largest body of a call on the control interface, in bytes.
pub const TRIAL_BODY_BYTES_MAX: usize = 1 << 20;
/// Longest time for such a body to arrive.
pub const TRIAL_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a test's host to finish its requests once it is ended.
pub const TRIAL_GRACE: Duration = Duration::from_secs(1);
/// How far a test may move its clock: to the end of the year 2099, before a row's expiry no longer fits its column.
pub const TRIAL_CLOCK_MS_MAX: i64 = 4_102_444_800_000;
/// Longest time for a test command to end by itself once it is interrupted.
pub const TRIAL_INTERRUPT_GRACE: Duration = Duration::from_secs(5);
