//! The numeric limits of the host, with their units and reasons. Options use these values as defaults.

use std::time::Duration;

/// Longest time from a request's head to its answer's release, re-runs included.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Longest time for the first start of a new guest, unless the guest's own deadline is shorter.
pub const DEPLOY_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time for compiling one component. An interpreter takes 10 s on a busy machine.
pub const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
/// Most memory that the compilation of one component may take, in bytes. An interpreter takes 500 MiB.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Components compiled at once. Each compilation uses all processors by itself, and needs its own memory.
pub const COMPILES_AT_ONCE_MAX: usize = 2;
/// Most files of compiled code that are kept.
pub const CODE_FILES_MAX: usize = 256;
/// Most bytes of compiled code that are kept.
pub const CODE_BYTES_MAX: u64 = 2 << 30;
/// Largest linear memory of one guest instance, in bytes.
pub const MEMORY_BYTES_MAX: usize = 128 << 20;
/// Largest request body that a guest may be sent, in bytes.
pub const REQUEST_BODY_BYTES_MAX: u64 = 10 << 20;
/// Largest part of a request body that is kept so that the guest can be run again, in bytes.
pub const REPLAY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a response body that are held back until the session is committed. A longer body is released once this many bytes are ready.
pub const RELEASE_BYTES: usize = 64 << 10;
/// Largest session, as the JSON text in its row, in bytes.
pub const SESSION_BYTES_MAX: usize = 64 << 10;
/// Most keys of one session.
pub const SESSION_KEYS_MAX: usize = 256;
/// Longest key of a session, in bytes of UTF-8.
pub const SESSION_KEY_BYTES_MAX: usize = 256;
/// Deepest nesting of a value that a guest may set. Node's `JSON.stringify` recurses, and must be able to handle our rows.
pub const SESSION_VALUE_DEPTH_MAX: usize = 128;
/// Largest cookie that a guest may write, in bytes: its name and value as sent. Browsers drop larger cookies silently.
pub const COOKIE_BYTES_MAX: usize = 4096;
/// Longest time that browsers keep a cookie (RFC 6265bis, section 5.5).
pub const COOKIE_AGE_MAX: Duration = Duration::from_hours(400 * 24);
/// Most sessions that the valid cookies of one request may name for the store to be asked which of them exist. Browsers
/// keep one cookie of a name for each domain and path.
pub const SESSION_IDS_MAX: usize = 4;
/// Most `Set-Cookie` fields with the session cookie's name in one answer. Only the answer to a request with several valid
/// cookies has more than one.
pub const SESSION_SET_COOKIES_MAX: usize = 16;
/// Largest file that a secret is read from, in bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;
/// Largest configuration file, and largest file of certificates, in bytes.
pub const CONFIG_FILE_BYTES_MAX: u64 = 4 << 20;
/// Log lines per minute about denied calls of a guest, for each kind of grant. Further denials are only counted.
pub const DENIAL_LINES_MAX: u32 = 10;
/// Most changes in a request's log for which it can be applied to a newer row. A request with more changes is run again instead.
pub const SESSION_LOG_OPS_MAX: usize = 1024;
/// Most bytes of such a log.
pub const SESSION_LOG_BYTES_MAX: usize = 256 << 10;
/// How long the answer of a guest that made no session call waits for the session's row when the store is slow. The row is
/// needed to move its expiry.
pub const UNUSED_LOAD_WAIT_MAX: Duration = Duration::from_millis(250);
/// Largest request head that is read, in bytes. Common servers allow about 8 KiB per line; several long cookies need room.
pub const REQUEST_HEAD_BYTES_MAX: usize = 32 << 10;
/// Most header fields of a request.
pub const REQUEST_HEADERS_MAX: usize = 100;
/// Longest request target (path and query), in bytes.
pub const REQUEST_TARGET_BYTES_MAX: usize = 16 << 10;
/// Longest host that a client or a guest may name, in characters, without its port. A DNS name has at most 253, and may end in a dot.
pub const HOST_CHARS_MAX: usize = 255;
/// Longest label of such a host, the limit of DNS (RFC 1035, section 2.3.4). The time to parse an IDNA label grows with the
/// square of its length.
pub const HOST_LABEL_CHARS_MAX: usize = 63;
/// Longest request method, in bytes. The longest registered method has 17 (UPDATEREDIRECTREF).
pub const REQUEST_METHOD_BYTES_MAX: usize = 32;
/// Most connections at once. A further connection replaces one without a request, or is closed.
pub const CONNECTIONS_MAX: u64 = 4096;
/// Most requests under way at once: as many as connections, so that this limit affects only HTTP/2's many streams.
pub const REQUESTS_MAX: u64 = 4096;
/// Bytes of request bodies that are kept before their guests run, and for re-runs, over all clients.
pub const WAITING_BODIES_BYTES_MAX: u64 = 256 << 20;
/// Bytes of answers that clients have not taken, over all clients.
pub const UNTAKEN_BYTES_MAX: u64 = 256 << 20;
/// Bytes of answers that the client of one HTTP/2 connection has not taken. Above it, an answer that has stalled is cut. If
/// every stream of a connection has an answer of [`RELEASE_BYTES`], they take half of this limit.
pub const UNTAKEN_CONNECTION_BYTES_MAX: u64 = 16 << 20;
/// Charge for an answer in addition to its bytes: its stream in the protocol and its task.
pub const UNTAKEN_ANSWER_BYTES: u64 = 12 << 10;
/// Charge for the head of an answer, or its trailers, in addition to their fields, while they wait for a blocked socket.
pub const UNTAKEN_HEAD_BYTES: u64 = 1 << 10;
/// Largest head of a guest's answer, in bytes: its fields' names and values, plus 32 for each field. A client whose buffer
/// is as large as ours accepts it. The protocol implementation keeps a head until the client's socket takes it.
pub const RESPONSE_HEAD_BYTES_MAX: u64 = 32 << 10;
/// Most fields in one message's trailers. If there are more, all trailers of the message are dropped, as any recipient may
/// (RFC 9110, section 6.5.1).
pub const TRAILER_FIELDS_MAX: usize = 32;
/// Most bytes of names and values in one message's trailers.
pub const TRAILER_BYTES_MAX: usize = 8 << 10;
/// How long a client must leave an answer untouched before it may be cut because of its connection's limit. Also how long
/// bytes must be left before they may be revoked for any client, even if their own client holds little.
pub const UNTAKEN_STALL_MIN: Duration = Duration::from_secs(5);
/// Bytes of one HTTP/2 connection that may wait in its buffers for streams that have ended.
pub const UNTAKEN_LET_GO_BYTES_MAX: u64 = 16 << 10;
/// Answers of one HTTP/2 connection whose bytes may wait in this way.
pub const UNTAKEN_LET_GO_ANSWERS_MAX: u64 = 8;
/// Largest piece of an answer that is passed to HTTP/2 at once, the size of its frames. The progress of a client is visible
/// in steps of this size.
pub const HTTP2_PIECE_BYTES_MAX: usize = 16 << 10;
/// Longest HTTP/1 answer that does not count as untaken. A connection has only one answer, and has buffers of this size anyway.
pub const HTTP1_UNCOUNTED_BYTES_MAX: u64 = 16 << 10;
/// How long a search for revocable reservations that found none is remembered. Refusals during that time need no search.
/// Reservations that become revocable meanwhile without notice are found afterwards.
pub const NOTHING_TO_REVOKE_TIME: Duration = Duration::from_millis(5);
/// Time between two attempts to find room for a connection that was accepted when no other connection could be closed for it.
pub const CONNECTION_RETRY: Duration = Duration::from_millis(10);
/// How long such a connection waits before it is closed, if its client has no other one.
pub const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a client may send nothing of a request's body before its rate counts.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Slowest rate at which a client may send a request's body after that, in bytes per second: a fifth of the slowest mobile line.
pub const BODY_BYTES_PER_S_MIN: u64 = 1 << 10;
/// Total time that a run may wait for its client before it can lose its instance to waiting requests.
pub const CLIENT_WAIT_FREE: Duration = Duration::from_secs(1);
/// Time between two checks of the clients at a concurrency limit where requests wait.
pub const CLIENT_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Rate of a client, in bytes per second, above which it may keep the only instance of a guest while requests wait for it.
pub const CLIENT_RATE_FAIR: u64 = 64 << 10;
/// Bytes of a released answer that are taken from its guest before its client asks for them. Most guests have finished by then.
pub const READ_AHEAD_BYTES: usize = 256 << 10;
/// Slowest rate at which a client may take an answer's body, in bytes per second, once it has used up the idle time-out.
/// This is far below the rate of any line, and far above that of a client that keeps a guest busy with an occasional byte.
pub const TRANSFER_BYTES_PER_S_MIN: u64 = 240;
/// Smallest average size of the pieces of a request's body (chunks, DATA frames), in bytes, once the free pieces are used up.
pub const BODY_PIECE_BYTES_MIN: u64 = 32;
/// Pieces below that average that a body may have. Each costs about as much as a small request, whatever its size.
pub const BODY_PIECES_FREE: u64 = 1024;
/// Further such pieces for each second: far more than a person types.
pub const BODY_PIECES_PER_S_FREE: u64 = 100;
/// Size up to which pieces are joined, in bytes.
pub const BODY_PIECE_JOINED_BYTES: usize = 16 << 10;
/// How long the pieces of a body with many tiny pieces wait for more.
pub const BODY_PIECE_JOIN_WAIT: Duration = Duration::from_millis(1);
/// Bytes of an unwanted request body that are read and discarded so that the sender reads the answer. See also
/// [`REQUEST_DISCARD_TIMEOUT`].
pub const REQUEST_DISCARD_BYTES_MAX: usize = 4 << 20;
/// Longest time for which an unwanted request body is read and discarded.
pub const REQUEST_DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for a request's head to arrive. A slow head occupies only a connection.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that a connection stays open without a request: longer than the usual 60 s of a proxy in front.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest time for requests under way to finish after a stop signal.
pub const GRACE: Duration = Duration::from_secs(30);
/// How long a host may take to end after its grace period, to settle the store and close the admin interface. Then it is ended.
pub const END_AFTER_GRACE_MAX: Duration = Duration::from_secs(15);
/// Smallest buffer for a request's head that the HTTP/1 parser accepts, in bytes.
pub const REQUEST_HEAD_BYTES_MIN: usize = 8 << 10;
/// Shortest wait after a connection could not be accepted, usually for lack of file descriptors.
pub const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest wait after a connection could not be accepted.
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Most concurrent requests on one HTTP/2 connection. The RFC recommends at least 100.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// Silence after which an HTTP/2 client is sent a ping.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// Longest wait for the reply to that ping.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one request's body that an HTTP/2 client may send before the guest reads them. They are not part of a total,
/// because the number of requests bounds them: with the maximum number, to 256 MiB. hyper does not raise the window of a
/// body that is read.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// The same over all requests of a connection. A client with a long round trip sends at most this much per round trip.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of one answer that are buffered for a slow HTTP/2 client.
pub const HTTP2_SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Streams that an HTTP/2 client may have reset before it loses its connection.
pub const HTTP2_RESETS_PENDING_MAX: usize = 32;
/// Most guest instances at once, over all guests of one engine: enough for three guests at their limit and many below it.
pub const INSTANCES_MAX: usize = 1000;
/// Most requests that may wait for an instance of an engine. The waiters limit of their own guest applies as well.
pub const INSTANCE_WAITERS_MAX: usize = 1024;
/// Longest wait for an instance.
pub const INSTANCE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Most instances of one guest at once: a quarter of the engine's, so that one guest alone cannot take all of them.
pub const GUEST_INSTANCES_MAX: usize = 256;
/// Most requests that may wait for an instance of one guest.
pub const GUEST_WAITERS_MAX: usize = 1024;
/// Instance slots of an engine that stay warm (keep their memory) after a burst.
pub const WARM_INSTANCES_MAX: u32 = 256;
/// Most idle instances of an engine, of guests that are reused: about the number of answers that a busy host commits at
/// once. Each keeps its memory.
pub const IDLE_INSTANCES_MAX: usize = 64;
/// Longest time that an instance stays idle: longer than a lull, but short enough that the memory of a burst is freed.
pub const INSTANCE_IDLE_MAX: Duration = Duration::from_secs(60);
/// Most requests that a guest may send to other servers during one request of its own.
pub const OUTBOUND_CALLS_MAX: u32 = 64;
/// Most outgoing connections of one guest at once, including those without a request.
pub const GUEST_OUTBOUND_CONNECTIONS_MAX: usize = 64;
/// Most outgoing connections of all guests at once: enough for eight guests at their limit.
pub const OUTBOUND_CONNECTIONS_MAX: usize = 512;
/// Longest wait for an outgoing connection if the call has no connect time-out: enough for a short burst, and far below a
/// guest's deadline.
pub const OUTBOUND_WAIT_MAX: Duration = Duration::from_secs(2);
/// Most calls of one guest that may wait for a connection at the guest's own limit: as many as it has instances. A call
/// that waits only at the host-wide limit counts as one of the guest's connections.
pub const OUTBOUND_WAITERS_MAX: usize = 256;
/// How long an outgoing connection stays open for another request. Node.js closes its end after 5 s, and a request sent at
/// that moment is lost.
pub const OUTBOUND_IDLE_MAX: Duration = Duration::from_secs(4);
/// Largest head of an answer to a guest's request, and size of the buffer for its body, in bytes.
pub const OUTBOUND_HEAD_BYTES_MAX: usize = 64 << 10;
/// Most host names that are looked up at once for all guests. The system's resolver uses a thread and a few descriptors for
/// each, and only its own time-outs end a lookup.
pub const LOOKUPS_MAX: usize = 32;
/// Most of these lookups for one guest.
pub const GUEST_LOOKUPS_MAX: usize = 8;
/// Longest time that `cloakroom check` waits for the addresses of the granted names.
pub const CHECK_LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a run may compute on the serving threads before it moves to the background pool. Nearly every handler has
/// finished by then, and a hundred endless loops at once take two cores for only a fifth of a second in total.
pub const BACKGROUND_THRESHOLD: Duration = Duration::from_millis(4);
/// How much the nice value of the background pool's threads is raised. Next to another runnable thread, such a thread gets
/// a tenth of the processor.
pub const BACKGROUND_NICENESS: i32 = 10;
/// Most requests of this process that may wait for one session lock.
pub const SLOT_WAITERS_MAX: usize = 64;
/// Memory for session snapshots between visits, in bytes: enough for some ten thousand typical sessions.
pub const SNAPSHOTS_BYTES_MAX: usize = 16 << 20;
/// How long a guest may run on a snapshot before the store is asked as well.
pub const SNAPSHOT_UNASKED_MAX: Duration = Duration::from_millis(5);
/// A visit that took longer than this and finds its session gone may have come before the session's end, so it starts no new session.
pub const UNKNOWN_END_MAX: Duration = Duration::from_millis(100);
/// Re-runs of one request before it starts to wait (with jitter) between attempts.
pub const EAGER_RERUNS_MAX: u32 = 3;
/// Longest silence in a released response body. Event streams commonly send a comment every 15 to 30 s.
pub const STREAM_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Log lines (stdout and stderr together) that are kept of one run of a guest.
pub const LOG_LINES_MAX: usize = 1000;
/// Longest log line of a guest, in bytes. Longer lines are cut.
pub const LOG_LINE_BYTES_MAX: usize = 4 << 10;
/// Bytes of log lines that are kept of one run of a guest.
pub const LOG_BYTES_MAX: usize = 256 << 10;
/// Bytes that all runs of one guest together may log per second: ten thousand short lines.
pub const LOG_BYTES_PER_S_MAX: usize = 1 << 20;
/// Most rows that one store statement names.
pub const STORE_BATCH_ROWS_MAX: usize = 128;
/// Most bytes of session data that one store statement writes: well below the packet size that servers accept.
pub const STORE_BATCH_BYTES_MAX: usize = 1 << 20;
/// Most concurrent statements with commits to a database, and most with reads. Further entries wait and are batched.
/// Measured with 32 requests in flight: three give as many answers as six, with a quarter less work for the server.
pub const STORE_WORKERS: usize = 3;
/// Time without a reply after which a statement gives back its worker permit of the batch queue. It waits for a row that
/// another client has locked, or for a host that is gone, and later entries must not wait with it.
pub const STORE_WORKER_STALL: Duration = Duration::from_millis(100);
/// Most commits that may wait in the batch queue of a database, and most reads.
pub const STORE_QUEUE_ROWS_MAX: usize = 4096;
/// Connections of the pool to each database host, as many as in express-mysql-session's mysql2 pool.
pub const STORE_CONNECTIONS_MAX: usize = 10;
/// Longest time to connect and log in to a database.
pub const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for one statement. It is shorter than the deadline, so that a commit whose reply was lost can still be settled.
pub const STORE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a free connection of the pool.
pub const STORE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a session without a cookie expiry lives after its last use; express-mysql-session's `expiration`.
pub const SESSION_EXPIRATION: Duration = Duration::from_secs(24 * 3600);
/// Time between two runs of the reaper; express-mysql-session's `checkExpirationInterval`.
pub const CHECK_EXPIRATION_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Most rows that the reaper deletes per statement: few enough that other statements do not wait long for it.
pub const REAP_BATCH_ROWS_MAX: usize = 64;
/// How long the reaper pauses between two statements, as a multiple of the time that the last one took.
pub const REAP_PAUSE_FACTOR: u32 = 3;
/// Longest id of a row, in bytes: the column is `varchar(128)`.
pub const SESSION_ID_BYTES_MAX: usize = 128;
/// Value of `Retry-After` in the host's own 503 responses, in seconds.
pub const RETRY_AFTER_S: u32 = 1;
/// Longest time for a call on the embedded database, including the wait in its queue.
pub const SQLITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most calls that may wait for the embedded database's writer, and most for its readers.
pub const SQLITE_QUEUE_CALLS_MAX: usize = 4096;
/// Most rows in one transaction of the embedded database's writer. It then commits even if more rows are waiting.
pub const SQLITE_TRANSACTION_ROWS_MAX: usize = 256;
/// Size to which the write-ahead log is grown at start. Overwriting allocated blocks is many times faster than appending.
pub const SQLITE_WAL_BYTES: u64 = 16 << 20;
/// Pages in the write-ahead log after which they are copied into the database: a quarter of the grown log, so that the log
/// is reused from its start before it has to grow.
pub const SQLITE_CHECKPOINT_PAGES: i64 = 1000;
/// Longest write-ahead log, as a multiple of the grown one. If a reader keeps the log longer than this, the host logs it. A
/// log that was copied is shortened to this length, which is far more than one transaction adds, so that a typical log
/// keeps its blocks.
pub const SQLITE_WAL_GROWTH_MAX: u64 = 4;
/// Longest time between two checks of the embedded database's files, whether or not anything is written.
pub const SQLITE_WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a failed call after which a store that failed is reported to answer again. It doubles if the store fails
/// again within [`STORE_CALM_MAX`], so that a store that fails occasionally does not fill the log.
pub const STORE_CALM_MIN: Duration = Duration::from_secs(1);
/// Longest such time.
pub const STORE_CALM_MAX: Duration = Duration::from_secs(60);
/// Sessions in one page of a store copy. A page of the largest sessions takes 16 MiB of memory at each end.
pub const COPY_PAGE_ROWS: usize = 256;
/// How often a store copy tries one page before it gives up. The fail-over of a cluster takes some seconds.
pub const COPY_ATTEMPTS_MAX: u32 = 20;
/// Wait between two such tries.
pub const COPY_RETRY_WAIT: Duration = Duration::from_millis(500);
/// Longest time for one statement of a store copy. No visitor waits for it.
pub const COPY_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two progress lines of a store copy if there is no terminal.
pub const COPY_PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Reads by which `cloakroom store check` measures the latency.
pub const CHECK_LATENCY_READS: usize = 16;
/// Median of a round trip to MySQL above which the check warns: roughly the limit within one data centre.
pub const MYSQL_CHECK_LATENCY_WARN: Duration = Duration::from_millis(5);
/// Median of a read of the embedded store above which the check warns: no local disk is that slow.
pub const SQLITE_CHECK_LATENCY_WARN: Duration = Duration::from_millis(50);
/// Difference between two clocks above which the check warns. Rows expire in whole seconds.
pub const CHECK_CLOCK_SKEW_WARN: Duration = Duration::from_secs(2);
/// Longest wait after the start before expired rows are deleted for the first time.
pub const REAP_FIRST_DELAY_MAX: Duration = Duration::from_secs(5);
/// Wait after the reaper's first failure. It doubles with each further failure, up to the reaper's interval.
pub const REAP_RETRY_DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest time for the requests of a guest's old version to end before they are cut: long enough for a download, and short
/// enough that an event stream, whose client reconnects, does not keep old code for hours.
pub const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How long a new version of a guest may still be rolled back automatically.
pub const ROLLBACK_PROBATION: Duration = Duration::from_secs(600);
/// Length of the window of requests by which a version is judged.
pub const ROLLBACK_WINDOW: Duration = Duration::from_secs(10);
/// Smallest number of requests in the window for a judgement.
pub const ROLLBACK_REQUESTS_MIN: u32 = 20;
/// Failures of fewer clients than this do not count if successful requests came from at least this many clients.
pub const ROLLBACK_CLIENTS_MIN: usize = 3;
/// Largest share of failures of one kind before a new version is rolled back.
pub const ROLLBACK_SHARE_MAX: f64 = 0.2;
/// How long a canary serves its share of the visitors before it serves all of them.
pub const CANARY_DURATION: Duration = Duration::from_secs(300);

/// Debounce time: a component's file is checked this long after the last event if its writer has closed it. Editors and
/// copy tools perform several operations in a row.
pub const WATCH_DEBOUNCE: Duration = Duration::from_millis(20);
/// Debounce time if no event says that the file is complete. Also the time between two checks of the file's modification
/// stamp, for file systems that report no events.
pub const WATCH_QUIET: Duration = Duration::from_secs(2);
/// How long a stopping host answers requests on open HTTP/1 connections: long enough for a busy client's next request. The
/// answer asks the client to close the connection.
pub const LAST_RESPONSE_WAIT: Duration = Duration::from_millis(500);

/// Most connections to the admin interface at once: some operators and their monitoring.
pub const ADMIN_CONNECTIONS_MAX: u64 = 64;
/// Most components from the admin interface that are compiled or tested at once.
pub const ADMIN_UPLOADS_MAX: usize = 2;
/// Memory of the admin interface for components, including those still arriving, as a multiple of the largest component.
pub const ADMIN_UPLOADS_HELD_MAX: u64 = 4;
/// Longest time for a component to arrive.
pub const ADMIN_UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a refused component that are read and discarded so that its sender reads the reason. See also [`ADMIN_DISCARD_TIMEOUT`].
pub const ADMIN_DISCARD_BYTES_MAX: usize = 1 << 20;
/// Longest time for which a refused component is read and discarded.
pub const ADMIN_DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for admin calls under way to finish when the host has stopped.
pub const ADMIN_GRACE: Duration = Duration::from_secs(2);
/// Longest time for `cloakroom guests` to connect to its host.
pub const ADMIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for `cloakroom guests` to receive the whole answer. An interpreter takes minutes to compile on a slow machine.
pub const ADMIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(900);

// Limits of `cloakroom test`.
/// Most hosts that the tests of a guest run at once. Each holds little more than a port. A test that forgets to end its
/// hosts gets an error.
pub const TEST_HOSTS_MAX: usize = 256;
/// Most simulated conflicting commits that wait for a commit of one test host.
pub const TEST_RIVALS_MAX: usize = 1024;
/// Most connections to the control interface at once. A test runner may run many tests in parallel.
pub const TEST_CONNECTIONS_MAX: u64 = 256;
/// Largest body of a call on the control interface, in bytes.
pub const TEST_BODY_BYTES_MAX: usize = 1 << 20;
/// Longest time for such a body to arrive.
pub const TEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a test host to finish its requests once it is ended.
pub const TEST_GRACE: Duration = Duration::from_secs(1);
/// How far a test may move its clock, in milliseconds since the epoch: to the end of the year 2099, before a row's expiry
/// no longer fits its column.
pub const TEST_CLOCK_MS_MAX: i64 = 4_102_444_800_000;
/// Longest time for a test command to end by itself once it is interrupted.
pub const TEST_INTERRUPT_GRACE: Duration = Duration::from_secs(5);
