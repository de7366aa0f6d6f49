//! The targets of `make fuzz`: each takes bytes of any client, row, file or component, and asserts what must hold for all of them.
//!
//! The tests below replay the corpus, `host/fuzz/corpus`: the same functions, as ordinary tests. Each module states its own
//! properties in its `fuzz.rs`; this module only lists them.

use crate::{config, cookie, guest, record, server};

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Runs it on one input. Panics where a property does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "head",
        run: server::fuzz::connection,
    },
    Target {
        name: "cookies",
        run: cookie::fuzz::cookies,
    },
    Target {
        name: "rows",
        run: record::fuzz::row,
    },
    Target {
        name: "config",
        run: config::fuzz::text,
    },
    Target {
        name: "component",
        run: guest::fuzz::component,
    },
];

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().find(|target| target.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::*;

    /// Inputs of a target that must be there: a corpus that was lost would let every replay pass.
    const INPUTS_MIN: usize = 20;

    fn replay(name: &str) {
        let target = Target::named(name).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
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
    fn the_corpus_of_heads_holds() {
        replay("head");
    }

    #[test]
    fn the_corpus_of_cookies_holds() {
        replay("cookies");
    }

    #[test]
    fn the_corpus_of_rows_holds() {
        replay("rows");
    }

    #[test]
    fn the_corpus_of_configurations_holds() {
        replay("config");
    }

    #[test]
    fn the_corpus_of_components_holds() {
        replay("component");
    }
}
