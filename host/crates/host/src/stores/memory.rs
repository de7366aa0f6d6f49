//! `memory:`: sessions in the memory of this process. They end with it.

use std::sync::Arc;

use super::{ConfiguredStore, OpenStore, StoreChoice, StoreFactory, StoreLocation};
use crate::config_reader::Section;
use crate::config_reader::kinds::ValueError;
use crate::failure::StartError;
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::store::{SessionStore, StoreFuture};

/// The kind of store in memory.
pub(crate) struct MemoryFactory;

/// The store in memory, which has no settings.
#[derive(Debug)]
pub(crate) struct ConfiguredMemory;

impl StoreFactory for MemoryFactory {
    fn schemes(&self) -> &'static [&'static str] {
        &["memory"]
    }

    fn url_form(&self) -> &'static str {
        "memory:"
    }

    fn check_url(&self, rest: &str) -> Result<(), ValueError> {
        match rest.is_empty() {
            true => Ok(()),
            false => Err(ValueError::new(
                "a memory store has no name",
                "write \"memory:\"",
            )),
        }
    }

    fn outlives_host(&self) -> bool {
        false
    }

    fn read(
        &self,
        _section: &mut Section<'_>,
        choice: StoreChoice<'_>,
    ) -> Option<Arc<dyn ConfiguredStore>> {
        match choice {
            StoreChoice::Url(_) | StoreChoice::Keys => Some(Arc::new(ConfiguredMemory)),
            StoreChoice::Other | StoreChoice::Unknown => None,
        }
    }
}

impl ConfiguredStore for ConfiguredMemory {
    fn place(&self) -> String {
        "in memory: they end with this process".to_owned()
    }

    fn location(&self) -> StoreLocation<'_> {
        StoreLocation::Memory
    }

    fn descriptors(&self) -> u64 {
        0
    }

    fn changed_keys(&self, new: &(dyn ConfiguredStore + 'static)) -> Vec<&'static str> {
        match new.downcast_ref::<Self>() {
            Some(Self) => Vec::new(),
            None => vec!["store.url"],
        }
    }

    fn open(&self) -> StoreFuture<'_, Result<Box<dyn OpenStore>, StartError>> {
        Box::pin(async { Ok(Box::new(Arc::new(MemoryStore::new())) as _) })
    }
}

impl OpenStore for Arc<MemoryStore> {
    fn sessions(&self) -> Arc<dyn SessionStore> {
        Arc::clone(self) as _
    }

    fn close(self: Box<Self>) -> StoreFuture<'static, ()> {
        Box::pin(async move { drop(self) })
    }
}
