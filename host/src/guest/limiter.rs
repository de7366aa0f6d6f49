//! What an instance may allocate: remembers that it refused, because the trap that follows does not tell.

use wasmtime::{ResourceLimiter, Result};

/// Largest table, in elements: far above what compilers emit, far below what would cost the host memory.
const TABLE_ELEMENTS_MAX: usize = super::engine::TABLE_ELEMENTS;

/// Counts the linear memory of one instance (of all core instances in it) against the guest's limit.
#[derive(Debug)]
pub(super) struct Limiter {
    memory_bytes_max: usize,
    memory_bytes: usize,
    refused: bool,
}

impl Limiter {
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        Self {
            memory_bytes_max,
            memory_bytes: 0,
            refused: false,
        }
    }

    /// Whether memory was refused. A guest that copes and fails later for another reason is blamed for memory too.
    pub(super) fn has_refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let total = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max || maximum.is_some_and(|max| desired > max) {
            self.refused = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_one_instance_count_together() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.has_refused());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.has_refused());
        assert!(limiter.memory_growing(60, 100, None).unwrap());
    }
}
