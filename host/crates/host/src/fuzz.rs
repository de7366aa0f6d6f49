//! The targets of `make fuzz`. Each target takes arbitrary bytes as a client, a row, a file or a component could provide
//! them, and asserts properties that hold for all inputs.
//!
//! The tests below run the same functions on the corpus in `host/fuzz/corpus`. Each module states its own properties in its
//! `fuzz.rs`; this module only lists the targets.

use cloakroom_session::{cookie, record};

use crate::{config, handler};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct FuzzTarget {
    /// The name of the target, and of its folder in the corpus.
    pub name: &'static str,
    /// Runs the target on one input. Panics if a property does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [FuzzTarget; 5] = [
    FuzzTarget {
        name: "head",
        run: |input| cloakroom_server::fuzz::connection(input, handler::fuzz::judge),
    },
    FuzzTarget {
        name: "cookies",
        run: cookie::fuzz::cookies,
    },
    FuzzTarget {
        name: "rows",
        run: record::fuzz::row,
    },
    FuzzTarget {
        name: "config",
        run: config::fuzz::text,
    },
    FuzzTarget {
        name: "component",
        run: cloakroom_runtime::fuzz::component,
    },
];

impl FuzzTarget {
    /// Returns the target with this name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().find(|target| target.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::*;

    /// The smallest number of inputs of a target. If the corpus were lost, every replay would pass without this check.
    const INPUTS_MIN: usize = 20;

    fn replay(name: &str) {
        let target = FuzzTarget::named(name).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let mut inputs: Vec<_> = std::fs::read_dir(folder.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(inputs.len() >= INPUTS_MIN, "{} inputs", inputs.len());
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
            assert!(outcome.is_ok(), "{} fails {name}", input.display());
        }
    }

    #[test]
    fn the_fuzz_corpus_of_heads_passes() {
        replay("head");
    }

    #[test]
    fn the_fuzz_corpus_of_cookies_passes() {
        replay("cookies");
    }

    #[test]
    fn the_fuzz_corpus_of_rows_passes() {
        replay("rows");
    }

    #[test]
    fn the_fuzz_corpus_of_configurations_passes() {
        replay("config");
    }

    #[test]
    fn the_fuzz_corpus_of_components_passes() {
        replay("component");
    }
}
