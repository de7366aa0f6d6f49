//! A swap file of the tests, and a function that pages a process out to it.

use std::ffi::c_void;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::host::binary;

/// Enough for several hosts with their guests.
const SWAP_BYTES: usize = 512 << 20;
/// The environment variable by which the user declares that this machine has no swap.
const KNOWN_MISSING: &str = "CLOAKROOM_NO_SWAP";
/// Larger mappings are reservations of address space.
const MAPPING_BYTES_MAX: usize = 1 << 30;

/// A swap file that is in use until this is dropped.
#[derive(Debug)]
pub struct Swap {
    file: PathBuf,
}

impl Swap {
    /// Creates a swap file next to the host's binary and enables it. Returns `None` where `CLOAKROOM_NO_SWAP=1` declares that this machine
    /// has none.
    ///
    /// # Panics
    /// If swap cannot be enabled. The panic gives the reason and the remedy.
    pub fn on() -> Option<Self> {
        if std::env::var_os(KNOWN_MISSING).is_some_and(|value| value == "1") {
            return None;
        }
        let swap = Self {
            file: binary().with_file_name("isolation.swap"),
        };
        // A killed test leaves its swap file enabled.
        swap.off();
        if let Err(error) = make(&swap.file) {
            panic!(
                "no swap: {error:#}\nThis test swaps a host's memory out. Run it as root on a file system that can hold a swap \
                 file; where there can be no swap, set {KNOWN_MISSING}=1 to run it without."
            );
        }
        Some(swap)
    }

    fn off(&self) {
        let in_use = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let name = self.file.to_string_lossy();
        if in_use.lines().any(|line| line.starts_with(&*name)) {
            let switched = run("swapoff", &self.file);
            switched.expect("enabled swap can be disabled");
        }
        let _ = fs::remove_file(&self.file);
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.off();
    }
}

fn make(file: &Path) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut made = options.write(true).create_new(true).open(file)?;
    // Written, not only extended: a swap file must have no holes.
    let zeros = vec![0; 1 << 20];
    for _ in 0..SWAP_BYTES / zeros.len() {
        made.write_all(&zeros)?;
    }
    made.sync_all()?;
    run("mkswap", file)?;
    run("swapon", file)
}

fn run(program: &str, file: &Path) -> Result<()> {
    // Debian installs these programs in /usr/sbin, which an ordinary user's PATH may lack.
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let output = Command::new(program)
        .env("PATH", path)
        .arg(file)
        .output()
        .with_context(|| format!("{program} does not run: tests/setup.sh installs it"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed: {}", file.display(), stderr.trim());
    }
    Ok(())
}

/// Asks the kernel to page out all writable memory of a process.
///
/// # Errors
/// If the process cannot be opened, or the kernel refuses every mapping.
pub fn page_out(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("a process has a number")?;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_nonzero()))?;
    let mappings: Vec<_> = maps.lines().filter_map(writable).collect();
    let advised = mappings
        .iter()
        .filter(|mapping| advise(process.as_raw_fd(), mapping))
        .count();
    ensure!(
        advised > 0,
        "MADV_PAGEOUT failed for all {} mappings: {}",
        mappings.len(),
        std::io::Error::last_os_error()
    );
    Ok(())
}

/// Returns the mapping that a line of `/proc/PID/maps` describes, if it is writable.
fn writable(line: &str) -> Option<libc::iovec> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let length = usize::from_str_radix(end, 16).ok()? - start;
    (rest.starts_with("rw") && length <= MAPPING_BYTES_MAX).then_some(libc::iovec {
        iov_base: std::ptr::without_provenance_mut::<c_void>(start),
        iov_len: length,
    })
}

#[expect(
    unsafe_code,
    reason = "no crate here wraps process_madvise for another process"
)]
fn advise(process: i32, mapping: &libc::iovec) -> bool {
    let mapping: *const libc::iovec = mapping;
    let (one, no_flags): (libc::size_t, libc::c_uint) = (1, 0);
    // SAFETY: the kernel reads one `iovec`, which outlives the call; the address in it belongs to the other process and is not accessed
    // here.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            process,
            mapping,
            one,
            libc::MADV_PAGEOUT,
            no_flags,
        )
    };
    advised >= 0
}
