//! Which pages of a freed slot are reset: those that hold data, no others.
//!
//! wasmtime asks the kernel for them (`PAGEMAP_SCAN`). Version 48 asked for pages that are written and present, so the next
//! instance found what had been swapped out. Version 50 asks for pages that are written, and Linux (6.18) says that of
//! every page without an entry in the page table, too: of all that an instance has never touched. These pages are then filled
//! with zeros after each request, exist from then on, and use up what a slot may keep resident; the pages that were
//! written lie behind them, are given back to the kernel, and fault in again. That cost a small guest a quarter of its
//! time, an interpreter two thirds.
//!
//! A page holds data if it is present or swapped. The system call has a field for that, which wasmtime leaves empty and has
//! no setting for, so it is filled in on the way: `ioctl` is defined here, in front of the C library's. This needs
//! rustix, through which wasmtime calls, to be built with `use-libc`. A patched wasmtime would do the same, as a copy of
//! its 120,000 lines that no tool checks for advisories. To be deleted, with `use-libc`, once wasmtime fills in the field:
//! the test below holds either way.

use std::ffi::{c_int, c_ulong, c_void};

use wasmtime::PoolingAllocationConfig;

/// `PAGEMAP_SCAN` and the categories of a page, from `linux/fs.h`.
const PAGEMAP_SCAN: c_ulong = 0xc060_6610;
const WRITTEN: u64 = 1 << 1;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

impl Scan {
    /// Of the pages that are written, only those that hold data.
    fn complete(&mut self) {
        if self.category_mask & WRITTEN != 0 && self.category_anyof_mask == 0 {
            self.category_anyof_mask = PRESENT | SWAPPED;
        }
    }
}

/// The C library's `ioctl`, but for scans of the page table. Every other call of the process passes unchanged.
///
/// # Safety
/// As the C library's: the argument must be what the request asks for.
#[expect(
    unsafe_code,
    reason = "wasmtime has no setting for the pages it resets"
)]
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(file: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the argument of this request is a `pm_scan_arg` that the caller lets the kernel write to. The kernel's answer and
    // `errno` are left as they are.
    unsafe {
        if request == PAGEMAP_SCAN
            && let Some(scan) = argument.cast::<Scan>().as_mut()
        {
            scan.complete();
        }
        let answer = libc::syscall(libc::SYS_ioctl, file, request, argument);
        c_int::try_from(answer).unwrap_or(-1)
    }
}

/// Says once whether the kernel can tell which pages were written (Linux 6.7 and later); without it a fresh instance costs
/// about twice.
pub(in crate::guest) fn report() {
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        tracing::info!("pagemap_scan is available: fresh instances at full speed");
    } else {
        tracing::warn!(
            "pagemap_scan is not available (Linux 6.7 and later): fresh instances cost about twice the time"
        );
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Module, Store};

    use super::super::*;

    #[tokio::test]
    async fn a_slot_keeps_the_pages_that_its_instances_have_written_and_no_others() {
        let memory = 18 << 16;
        let kept = if PoolingAllocationConfig::is_pagemap_scan_available() {
            rustix::param::page_size()
        } else {
            MEMORY_KEEP_RESIDENT.min(memory)
        };
        for world in [World::Wasi02, World::Wasi03] {
            let (engine, _) = engine(world, &Options::default()).unwrap();
            let metrics = engine.pooling_allocator_metrics().unwrap();
            // The stack of a usual guest, never used, and one page behind it.
            let text = "(module (memory 18) (func (export \"write\")
                (i32.store8 (i32.const 0x100000) (i32.const 1))))";
            let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
            for _ in 0..3 {
                let mut store = Store::new(&engine, ());
                store.set_epoch_deadline(1);
                let instance = Instance::new_async(&mut store, &module, &[]).await.unwrap();
                let write = instance.get_typed_func::<(), ()>(&mut store, "write");
                write.unwrap().call_async(&mut store, ()).await.unwrap();
            }
            assert_eq!(metrics.unused_memory_bytes_resident(), kept, "{world}");
        }
    }
}
