//! Decides which compiled code an engine accepts. A `Blueprint` holds the settings that affect the code, in a form that can be passed to
//! another process. A `Fingerprint` shows whether two engines agree.

use std::fmt;
use std::hash::{Hash as _, Hasher};
use std::str::FromStr;

use wasmtime::Engine;

use super::World;
use crate::guest::digest::hex;

/// The settings of an engine that affect the code it compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guest) struct Blueprint {
    pub(in crate::guest) world: World,
    /// Address space of a linear memory, in bytes.
    pub(super) reservation: u64,
    /// Guard region after it, in bytes. `None` uses wasmtime's default.
    pub(super) guard: Option<u64>,
}

/// Error for a text that is not a blueprint. The host writes these texts itself, so such a text comes from elsewhere.
#[derive(Debug)]
pub(in crate::guest) struct NotABlueprint;

impl fmt::Display for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = match self.world {
            World::Wasi02 => "0.2",
            World::Wasi03 => "0.3",
        };
        write!(f, "{world}/{}", self.reservation)?;
        match self.guard {
            Some(guard) => write!(f, "/{guard}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Blueprint {
    type Err = NotABlueprint;

    fn from_str(text: &str) -> Result<Self, NotABlueprint> {
        let mut parts = text.split('/');
        let world = match parts.next() {
            Some("0.2") => World::Wasi02,
            Some("0.3") => World::Wasi03,
            _ => return Err(NotABlueprint),
        };
        let number = |part: &str| part.parse().map_err(|_| NotABlueprint);
        let reservation = parts.next().ok_or(NotABlueprint).and_then(number)?;
        let guard = parts.next().map(number).transpose()?;
        match parts.next() {
            None => Ok(Self {
                world,
                reservation,
                guard,
            }),
            Some(_) => Err(NotABlueprint),
        }
    }
}

/// A hash of everything that decides whether an engine accepts code: wasmtime's version, the processor's features, and the settings. If two
/// fingerprints are equal, the code of one engine runs on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::guest) struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(in crate::guest) fn of(engine: &Engine, world: World) -> Self {
        let mut hash = Blake(blake3::Hasher::new());
        world.hash(&mut hash);
        engine.precompile_compatibility_hash().hash(&mut hash);
        let mut fingerprint = [0; 16];
        hash.0.finalize_xof().fill(&mut fingerprint);
        Self(fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A hasher with the same result in every process, unlike the standard library's.
struct Blake(blake3::Hasher);

impl Hasher for Blake {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::engine::{compiling_engine, engine};
    use crate::guest::settings::Options;

    #[test]
    fn it_passes_through_a_command_line() {
        for guard in [None, Some(65_536)] {
            let blueprint = Blueprint {
                world: World::Wasi03,
                reservation: 4 << 30,
                guard,
            };
            assert_eq!(blueprint.to_string().parse().ok(), Some(blueprint));
        }
        for text in ["", "0.2", "0.4/1", "0.2/x", "0.2/1/2/3"] {
            assert!(text.parse::<Blueprint>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_engine_that_only_compiles_agrees_with_the_one_that_runs() {
        let options = Options {
            instances_max: 1,
            ..Options::default()
        };
        let mut seen = Vec::new();
        for world in [World::Wasi02, World::Wasi03] {
            let (running, blueprint) = engine(world, &options).unwrap();
            let compiling = compiling_engine(blueprint).unwrap();
            let fingerprint = Fingerprint::of(&running, world);
            assert_eq!(fingerprint, Fingerprint::of(&compiling, world));
            seen.push(fingerprint);
        }
        let compact = Blueprint {
            world: World::Wasi02,
            reservation: 1 << 20,
            guard: Some(65_536),
        };
        let compact = compiling_engine(compact).unwrap();
        seen.push(Fingerprint::of(&compact, World::Wasi02));
        assert!(seen[0] != seen[1] && seen[0] != seen[2], "{seen:?}");
    }
}
