//! What the host keeps for an instance in the resource table, charged to its memory limit resource by resource.

use std::any::Any;
use std::collections::HashMap;

use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::types::{
    HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::p3::{Request, Response};

use super::tally::{Refused, Tally};

/// Memory that one entry of the resource table stands for by itself, in bytes: the entry, what it names and that one's
/// small allocations.
const ENTRY_BYTES: usize = 1 << 10;
/// What one handle of a guest's may stand for besides, in bytes: a stream, a task that waits.
const HANDLE_BYTES: usize = 1 << 10;

/// The resources and handles that an instance may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Most resources (headers, bodies, pollables, ...) on the host's side.
    pub(super) resources: usize,
    /// Most handles of resources, the guest's own included.
    pub(super) handles: usize,
}

impl Counts {
    /// So many that all of them together take no more than a quarter of the memory limit each. The least is
    /// enough for any handler, and a megabyte.
    pub(super) fn of(memory_bytes_max: usize) -> Self {
        Self {
            resources: (memory_bytes_max / 4 / ENTRY_BYTES).clamp(256, 4096),
            handles: (memory_bytes_max / 4 / HANDLE_BYTES).clamp(256, 16_384),
        }
    }
}

/// The bytes that the host keeps for each resource of the guest, beyond the entry itself.
///
/// A charge stays when its resource has gone, until another resource with a charge takes its place or the limit is met:
/// then those whose resource has gone are dropped. So the sum is never too low.
#[derive(Debug)]
pub(super) struct Holdings {
    tally: Tally,
    charges: HashMap<u32, usize>,
    /// What is kept until the request ends.
    kept: usize,
}

impl Holdings {
    pub(super) fn new(tally: Tally) -> Self {
        Self {
            tally,
            charges: HashMap::new(),
            kept: 0,
        }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Charges a resource for more.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn charge(
        &mut self,
        table: &mut ResourceTable,
        resource: u32,
        bytes: usize,
    ) -> Result<(), Refused> {
        self.add(table, bytes)?;
        *self.charges.entry(resource).or_default() += bytes;
        Ok(())
    }

    /// Charges a resource that was made just now; the place in the table may have been another one's.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn charge_new(
        &mut self,
        table: &mut ResourceTable,
        resource: u32,
        bytes: usize,
    ) -> Result<(), Refused> {
        self.take(resource);
        self.charge(table, resource, bytes)
    }

    /// The charge of a resource whose bytes go to another one.
    pub(super) fn take(&mut self, resource: u32) -> usize {
        let bytes = self.charges.remove(&resource).unwrap_or_default();
        self.tally.sub(bytes);
        bytes
    }

    /// Charges for bytes that are kept beyond their resource, up to the request's end.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn keep(&mut self, table: &mut ResourceTable, bytes: usize) -> Result<(), Refused> {
        self.add(table, bytes)?;
        self.kept += bytes;
        Ok(())
    }

    /// The request is over.
    pub(super) fn forget_kept(&mut self) {
        self.tally.sub(std::mem::take(&mut self.kept));
    }

    /// Drops the charges whose resource has gone, if there may be many.
    ///
    /// A call to another server charges its heads without the resource table, so it cannot drop these charges itself.
    pub(super) fn make_room(&mut self, table: &mut ResourceTable) {
        if self.tally.is_half_used() {
            self.sweep(table);
        }
    }

    /// Drops the charges whose resource has gone.
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

    /// Adds to the sum, where a sweep makes room if need be.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn add(&mut self, table: &mut ResourceTable, bytes: usize) -> Result<(), Refused> {
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

/// Whether it is of a kind that is charged for.
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

    fn holdings(bytes_max: usize) -> (Holdings, ResourceTable) {
        (Holdings::new(Tally::new(bytes_max)), ResourceTable::new())
    }

    #[test]
    fn charges_of_resources_that_have_gone_make_room_at_the_limit() {
        let (mut holdings, mut table) = holdings(100);
        let gone = table.push(FieldMap::new_mutable(1)).unwrap();
        let there = table.push(FieldMap::new_mutable(1)).unwrap();
        holdings.charge_new(&mut table, gone.rep(), 40).unwrap();
        holdings.charge_new(&mut table, there.rep(), 50).unwrap();
        assert!(holdings.charge(&mut table, there.rep(), 11).is_err());
        assert!(holdings.tally().has_refused());
        table.delete(gone).unwrap();
        assert!(holdings.charge(&mut table, there.rep(), 11).is_ok());
        assert!(holdings.charge(&mut table, there.rep(), 40).is_err());
    }

    #[test]
    fn a_place_that_another_resource_had_begins_anew() {
        let (mut holdings, mut table) = holdings(100);
        for _ in 0..1000 {
            let fields = table.push(FieldMap::new_mutable(1)).unwrap();
            holdings.charge_new(&mut table, fields.rep(), 60).unwrap();
            holdings.charge(&mut table, fields.rep(), 40).unwrap();
            table.delete(fields).unwrap();
        }
    }

    #[test]
    fn what_is_kept_counts_until_the_request_ends() {
        let (mut holdings, mut table) = holdings(100);
        holdings.keep(&mut table, 100).unwrap();
        assert!(holdings.keep(&mut table, 1).is_err());
        holdings.forget_kept();
        assert!(holdings.keep(&mut table, 100).is_ok());
    }

    #[test]
    fn resources_and_handles_take_a_part_of_any_memory_limit() {
        for mebibytes in [1, 2, 16, 128, 4096] {
            let bytes_max = mebibytes << 20;
            let Counts { resources, handles } = Counts::of(bytes_max);
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
