//! Restricts the pages that are reset in a freed slot to those that hold data.
//!
//! wasmtime asks the kernel for these pages (`PAGEMAP_SCAN`). Version 48 asked for pages that are written and present, so the next instance
//! found data that had been swapped out. Version 50 asks for pages that are written. But Linux (6.18) also counts a page as written if it
//! has no entry in the page table, as is the case for all pages that an instance has never touched. wasmtime then fills these pages with
//! zeros after each request. From then on they exist, and they use up the memory that a slot may keep resident. The pages that were really
//! written come after them, so they are returned to the kernel and fault in again. That cost a small guest a quarter of its time, and an
//! interpreter two thirds.
//!
//! A page holds data if it is present or swapped. The system call has a field for this condition, but wasmtime leaves it empty and has no
//! setting for it. So this module defines `ioctl`, in front of the C library's, and fills in the field. This works only if rustix, through
//! which wasmtime makes the call, is built with `use-libc`. A patched wasmtime would do the same, but it would be a copy of 120,000 lines
//! that no tool checks for advisories. Delete this module and `use-libc` once wasmtime fills in the field. The test below passes either
//! way.
//!
//! Decision 2 in `host/docs/decisions` has the alternatives and the measurements.

use std::ffi::{c_int, c_ulong, c_void};

use wasmtime::PoolingAllocationConfig;

use cloakroom_base::telemetry::ENGINE_TARGET;

/// `PAGEMAP_SCAN` and the categories of a page, from `linux/fs.h`.
const PAGEMAP_SCAN: c_ulong = 0xc060_6610;
const WRITTEN: u64 = 1 << 1;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
struct PageScan {
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

impl PageScan {
    /// Restricts a scan for written pages to pages that hold data.
    fn complete(&mut self) {
        if self.category_mask & WRITTEN != 0 && self.category_anyof_mask == 0 {
            self.category_anyof_mask = PRESENT | SWAPPED;
        }
    }
}

/// Replaces the C library's `ioctl`. Completes scans of the page table and passes every other call of the process on unchanged.
///
/// # Safety
/// Same as the C library's: the argument must be the one that the request expects.
#[expect(
    unsafe_code,
    reason = "wasmtime has no setting for the pages it resets"
)]
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(file: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the argument of this request is a `pm_scan_arg` that the caller lets the kernel write to. The kernel's result and `errno` are
    // passed on unchanged.
    unsafe {
        if request == PAGEMAP_SCAN
            && let Some(scan) = argument.cast::<PageScan>().as_mut()
        {
            scan.complete();
        }
        let answer = libc::syscall(libc::SYS_ioctl, file, request, argument);
        c_int::try_from(answer).unwrap_or(-1)
    }
}

/// Logs whether the kernel can report which pages were written (Linux 6.7 and later). If it cannot, a fresh instance takes about twice the
/// time.
pub(crate) fn report() {
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        tracing::info!(target: ENGINE_TARGET, "pagemap_scan is available: fresh instances at full speed");
    } else {
        tracing::warn!(
            target: ENGINE_TARGET,
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
        for world in [GuestWorld::Wasi02, GuestWorld::Wasi03] {
            let (engine, _) = engine(world, &RuntimeOptions::default()).unwrap();
            let metrics = engine.pooling_allocator_metrics().unwrap();
            // The stack of a typical guest, which is never used, and one page after it.
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
