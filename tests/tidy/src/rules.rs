//! The tables of the rules: the order of crates and modules, the homes of other crates, sizes, and the accepted exceptions.

/// The crates from the top to the bottom. A crate depends only on crates of lines below its own. `store-*` stands for each store.
pub const CRATE_LINES: [&[&str]; 7] = [
    &["cloakroom"],
    &["dev"],
    &["host"],
    &["runtime", "server", "store-*"],
    &["group-commit"],
    &["session"],
    &["base"],
];

/// The modules of a crate from the top to the bottom. A module imports only modules of lines below its own. `*` stands for all
/// modules that are not named. In crates that are not listed, only circles are refused.
pub const MODULES: [(&str, &[&[&str]]); 2] = [
    (
        "host",
        &[
            &["app"],
            &["config"],
            &["handler", "admin"],
            &["route", "json_api"],
        ],
    ),
    ("session", &[&["*"], &["cookie", "store"], &["record"]]),
];

/// A circle of imports that is accepted.
pub struct AcceptedCircle {
    /// The crate and the parent of the modules, such as `runtime/interfaces`.
    pub parent: &'static str,
    /// The names of the modules.
    pub members: &'static [&'static str],
    /// Why the circle stays, for the reader of the list.
    pub reason: &'static str,
}

/// Circles of imports that are accepted. A smaller circle of the same modules is accepted, too.
pub const ACCEPTED_CIRCLES: [AcceptedCircle; 1] = [AcceptedCircle {
    parent: "runtime/versions",
    members: &["deployment", "health_watch", "history"],
    reason: "a deployment owns its history, whose entries own the watches that act on the deployment",
}];

/// The crates that only certain modules may name, with these modules.
pub const HOMES: [(&str, &[&str]); 15] = [
    ("mysql_async", &["host/crates/store-mysql/src"]),
    ("rusqlite", &["host/crates/store-sqlite/src"]),
    ("wasmtime", &["host/crates/runtime/src"]),
    ("wasmtime_wasi", &["host/crates/runtime/src"]),
    ("wasmtime_wasi_http", &["host/crates/runtime/src"]),
    ("hyper", &HTTP),
    ("hyper_util", &HTTP),
    ("rustls", &OUTBOUND),
    ("tokio_rustls", &OUTBOUND),
    ("webpki_roots", &OUTBOUND),
    ("matchit", &["host/crates/host/src/route"]),
    ("notify", &["host/crates/runtime/src/watch"]),
    ("cloakroom_dev", &AUTHOR_COMMANDS),
    ("anyhow", &["host/src"]),
    ("prometheus", &["host/crates/base/src/telemetry"]),
];

/// The commands that a build without the feature `dev` leaves out.
const AUTHOR_COMMANDS: [&str; 4] = [
    "host/src/cli/dev",
    "host/src/cli/inspect",
    "host/src/cli/new",
    "host/src/cli/test",
];
const HTTP: [&str; 4] = [
    "host/crates/server/src",
    "host/crates/host/src/handler",
    "host/crates/host/src/admin",
    OUTBOUND[0],
];
const OUTBOUND: [&str; 1] = ["host/crates/runtime/src/interfaces/outbound"];

/// The folders of the end-to-end tests.
pub const TEST_FOLDERS: [&str; 3] = ["tests/e2e/", "tests/mariadb/", "tests/src/"];
/// The only file of these tests that may call the functions of [`SLEEPS`]. Its functions take the awaited event or a reason.
pub const SLEEP_HOME: &str = "tests/src/wait.rs";
/// The functions that wait for a time, or repeatedly for a moment.
pub const SLEEPS: [&str; 3] = ["sleep", "sleep_until", "yield_now"];

/// Nine of ten files have at most this many lines.
pub const FILE_LINES_MAX: usize = 400;
/// Most columns of a line.
pub const LINE_COLUMNS_MAX: usize = 140;
/// The functions that may be longer than others. `build_in` is the list of the host's parts in the order in which they are made,
/// `serve` is one loop over all events of a connection, and `new` writes all statements from the same parts of SQL.
pub const LONG_FUNCTIONS: [(&str, &str); 3] = [
    ("host/crates/host/src/app.rs", "build_in"),
    ("host/crates/server/src/connection.rs", "serve"),
    ("host/crates/store-mysql/src/sql.rs", "new"),
];
/// At most this share of the types has a name that another type has, too.
pub const SHARED_NAMES_PERCENT_MAX: usize = 12;
