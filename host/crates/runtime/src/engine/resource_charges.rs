//! Charges the bytes that the host keeps in the resource table for an instance to its memory limit, resource by resource.

use std::any::Any;
use std::collections::HashMap;

use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::types::{
    HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::p3::{Request, Response};

use super::memory_tally::{MemoryRefused, MemoryTally};

/// Memory that one entry of the resource table accounts for, in bytes: the entry, the value that it refers to, and that value's small
/// allocations.
const ENTRY_BYTES: usize = 1 << 10;
/// Memory that one handle of a guest may account for in addition, in bytes: a stream, or a waiting task.
const HANDLE_BYTES: usize = 1 << 10;

/// The limits on the resources and handles of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResourceLimits {
    /// Most resources (headers, bodies, pollables, ...) in the host.
    pub(crate) resources: usize,
    /// Most handles of resources, including handles of the guest's own resources.
    pub(crate) handles: usize,
}

impl ResourceLimits {
    /// Returns limits at which all resources together take at most a quarter of the memory limit, and all handles as well. The minimum is
    /// enough for any handler, and corresponds to a memory limit of 1 MiB.
    pub(crate) fn of(memory_bytes_max: usize) -> Self {
        Self {
            resources: (memory_bytes_max / 4 / ENTRY_BYTES).clamp(256, 4096),
            handles: (memory_bytes_max / 4 / HANDLE_BYTES).clamp(256, 16_384),
        }
    }
}

/// The bytes that the host keeps for each resource of the guest, in addition to the table entry.
///
/// A charge outlives its resource until another charged resource takes the same table entry, or until the limit is reached. At the limit,
/// all charges without a resource are dropped. So the sum is never too low.
#[derive(Debug)]
pub(crate) struct ResourceCharges {
    tally: MemoryTally,
    charges: HashMap<u32, usize>,
    /// Bytes that are kept until the request ends.
    retained: usize,
}

impl ResourceCharges {
    pub(crate) fn new(tally: MemoryTally) -> Self {
        Self {
            tally,
            charges: HashMap::new(),
            retained: 0,
        }
    }

    pub(crate) fn tally(&self) -> &MemoryTally {
        &self.tally
    }

    /// Charges a resource for more bytes.
    ///
    /// # Errors
    /// [`MemoryRefused`].
    pub(crate) fn charge(
        &mut self,
        table: &mut ResourceTable,
        resource: u32,
        bytes: usize,
    ) -> Result<(), MemoryRefused> {
        self.add(table, bytes)?;
        *self.charges.entry(resource).or_default() += bytes;
        Ok(())
    }

    /// Charges a resource that was just created. Its table entry may have belonged to another resource, whose charge is dropped.
    ///
    /// # Errors
    /// [`MemoryRefused`].
    pub(crate) fn charge_new(
        &mut self,
        table: &mut ResourceTable,
        resource: u32,
        bytes: usize,
    ) -> Result<(), MemoryRefused> {
        self.take(resource);
        self.charge(table, resource, bytes)
    }

    /// Removes and returns the charge of a resource whose bytes move to another resource.
    pub(crate) fn take(&mut self, resource: u32) -> usize {
        let bytes = self.charges.remove(&resource).unwrap_or_default();
        self.tally.sub(bytes);
        bytes
    }

    /// Charges for bytes that outlive their resource, until the request ends.
    ///
    /// # Errors
    /// [`MemoryRefused`].
    pub(crate) fn keep(
        &mut self,
        table: &mut ResourceTable,
        bytes: usize,
    ) -> Result<(), MemoryRefused> {
        self.add(table, bytes)?;
        self.retained += bytes;
        Ok(())
    }

    /// Drops the charges that last until the request ends.
    pub(crate) fn release_retained(&mut self) {
        self.tally.sub(std::mem::take(&mut self.retained));
    }

    /// Drops the charges of resources that no longer exist, if there may be many.
    ///
    /// A call to another server charges its heads without access to the resource table, so it cannot drop these charges itself.
    pub(crate) fn make_room(&mut self, table: &mut ResourceTable) {
        if self.tally.is_half_used() {
            self.sweep(table);
        }
    }

    /// Drops the charges of resources that no longer exist.
    fn sweep(&mut self, table: &mut ResourceTable) {
        let tally = &self.tally;
        self.charges.retain(|resource, bytes| {
            let is_there = table.get_any_mut(*resource).is_ok_and(|it| is_charged(it));
            if !is_there {
                tally.sub(*bytes);
            }
            is_there
        });
    }

    /// Adds to the sum. If that exceeds the limit, sweeps and tries again.
    ///
    /// # Errors
    /// [`MemoryRefused`].
    pub(crate) fn add(
        &mut self,
        table: &mut ResourceTable,
        bytes: usize,
    ) -> Result<(), MemoryRefused> {
        if self.tally.add(bytes) {
            return Ok(());
        }
        self.sweep(table);
        if self.tally.add(bytes) {
            return Ok(());
        }
        Err(self.tally.refuse())
    }
}

/// Returns whether a resource is of a kind that is charged for.
fn is_charged(resource: &dyn Any) -> bool {
    resource.is::<FieldMap>()
        || resource.is::<HostIncomingResponse>()
        || resource.is::<HostOutgoingRequest>()
        || resource.is::<HostOutgoingResponse>()
        || resource.is::<Request>()
        || resource.is::<Response>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charges(bytes_max: usize) -> (ResourceCharges, ResourceTable) {
        (
            ResourceCharges::new(MemoryTally::new(bytes_max)),
            ResourceTable::new(),
        )
    }

    #[test]
    fn at_the_limit_charges_of_deleted_resources_are_released() {
        let (mut charges, mut table) = charges(100);
        let gone = table.push(FieldMap::new_mutable(1)).unwrap();
        let there = table.push(FieldMap::new_mutable(1)).unwrap();
        charges.charge_new(&mut table, gone.rep(), 40).unwrap();
        charges.charge_new(&mut table, there.rep(), 50).unwrap();
        assert!(charges.charge(&mut table, there.rep(), 11).is_err());
        assert!(charges.tally().has_refused());
        table.delete(gone).unwrap();
        assert!(charges.charge(&mut table, there.rep(), 11).is_ok());
        assert!(charges.charge(&mut table, there.rep(), 40).is_err());
    }

    #[test]
    fn a_reused_table_entry_starts_without_a_charge() {
        let (mut charges, mut table) = charges(100);
        for _ in 0..1000 {
            let fields = table.push(FieldMap::new_mutable(1)).unwrap();
            charges.charge_new(&mut table, fields.rep(), 60).unwrap();
            charges.charge(&mut table, fields.rep(), 40).unwrap();
            table.delete(fields).unwrap();
        }
    }

    #[test]
    fn kept_bytes_are_charged_until_the_request_ends() {
        let (mut charges, mut table) = charges(100);
        charges.keep(&mut table, 100).unwrap();
        assert!(charges.keep(&mut table, 1).is_err());
        charges.release_retained();
        assert!(charges.keep(&mut table, 100).is_ok());
    }

    #[test]
    fn resource_and_handle_limits_stay_within_the_memory_limit() {
        for mebibytes in [1, 2, 16, 128, 4096] {
            let bytes_max = mebibytes << 20;
            let ResourceLimits { resources, handles } = ResourceLimits::of(bytes_max);
            assert!(
                resources * ENTRY_BYTES <= bytes_max / 4,
                "{mebibytes} MiB: {resources}"
            );
            assert!(
                handles * HANDLE_BYTES <= bytes_max,
                "{mebibytes} MiB: {handles}"
            );
        }
    }
}
