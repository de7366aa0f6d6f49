//! The binary `cloakroom`: a host that serves HTTP with WebAssembly components (guests) and gives each visitor a session, and the
//! commands to check, operate and develop for such a host.
//!
//! This crate is the command line: [`cli`] has a module for each command, [`signals`] handles the signals, and `main` runs the
//! command and returns its exit code. The host is the crate `cloakroom_host`. The tools for authors of guests (`new`, `dev`, `test`,
//! `inspect`) are the crate `cloakroom_dev`, which only a build with the feature `dev` (the default) contains.
//!
//! The allocator and thin LTO were measured: about a tenth of the processor time per request each. mimalloc was as fast as
//! jemalloc and kept twice the memory (`host/benches/results/profile.md`). jemalloc returns memory to the system in threads of
//! its own.

mod cli;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit};

use self::cli::{Cli, CliCommand};
use self::cli::{check, compile, guests, serve, store};
#[cfg(feature = "dev")]
use self::cli::{dev, inspect, new, test};
use cloakroom_base::telemetry;

/// Measured against the allocator of the C library: a tenth less CPU time per request, for 3 MiB more memory under load.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long the process waits at its end for the reader of its last log lines.
const LAST_LINES_WAIT_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    leave_no_core_dump();
    match Cli::parse().command {
        CliCommand::Serve(args) => block_on(serve::run(args)),
        #[cfg(feature = "dev")]
        CliCommand::Dev(args) => block_on(dev::run(args)),
        CliCommand::Check(args) => block_on(check::run(args)),
        #[cfg(feature = "dev")]
        CliCommand::Test(args) => block_on(test::run(args)),
        CliCommand::Guests(args) => block_on(guests::run(args)),
        #[cfg(feature = "dev")]
        CliCommand::New(args) => block_on(async { new::run(args) }),
        #[cfg(feature = "dev")]
        CliCommand::Inspect(args) => block_on(async { inspect::run(args) }),
        CliCommand::Store(args) => block_on(store::run(args)),
        // Runs before the process starts any thread.
        CliCommand::Compile(args) => compile::run(&args),
    }
}

/// Disables core dumps, which would write secrets and sessions to the disk. The hard limit stays unchanged. To get a core dump
/// of a running host, raise the soft limit (`prlimit --core=unlimited:unlimited --pid PID`).
fn leave_no_core_dump() {
    let old = rustix::process::getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..old
    };
    // Lowering a soft limit is always permitted.
    let _ = rustix::process::setrlimit(Resource::Core, none);
}

/// Runs a command on the multi-threaded runtime and returns the exit code of the process.
#[tokio::main]
async fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let code = command.await.unwrap_or_else(|error| {
        telemetry::print_stderr(&format!("cloakroom: {error:#}"));
        ExitCode::FAILURE
    });
    telemetry::flush(LAST_LINES_WAIT_MAX);
    code
}
